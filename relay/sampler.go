package relay

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// What is logged of lines with the same message within a second: all of the first ones, then every hundredth. What canisters,
// hosts and clients do can cause a line each time, and a client's close text is in one.
const (
	logTick   = time.Second
	logEvery  = 100
	logWarns  = 10   // warnings and errors
	logOthers = 1000 // the rest: a line for each session that ends belongs to it
)

// sampler is a core that leaves out lines when there are too many of the same message.
type sampler struct {
	zapcore.Core // for all but warnings and errors
	warnings     zapcore.Core
}

// Sampled returns l, which leaves out lines when there are too many of the same message: of those in a second all of the first 1000
// are written and every hundredth after them, of warnings and errors the first 10. It is safe for concurrent use, as l is.
func Sampled(l *zap.Logger) *zap.Logger {
	return l.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return &sampler{
			Core:     zapcore.NewSamplerWithOptions(c, logTick, logOthers, logEvery),
			warnings: zapcore.NewSamplerWithOptions(c, logTick, logWarns, logEvery),
		}
	}))
}

// With adds fields. The lines are counted together with those that do not have them.
func (s *sampler) With(fields []zapcore.Field) zapcore.Core {
	return &sampler{Core: s.Core.With(fields), warnings: s.warnings.With(fields)}
}

// Check adds the core that is to write e to ce, if e is not left out.
func (s *sampler) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Level >= zapcore.WarnLevel {
		return s.warnings.Check(e, ce)
	}
	return s.Core.Check(e, ce)
}
