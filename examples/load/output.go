package main

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// An output is where a run writes what it found.
type output struct {
	report io.Writer // for text or JSON
	rec    *recorder
	series *os.File // nil if it is none of ours
	failed error    // the time series is not complete
}

// open opens the file before anything else is done: a run must not turn out to be in vain at its end.
func open(s *settings, rec *recorder, stdout, stderr io.Writer) (*output, error) {
	o := &output{report: stdout, rec: rec}
	series := stdout
	switch s.csv {
	case "":
		return o, nil
	case "-":
		o.report = stderr
	default:
		var err error
		if o.series, err = os.Create(s.csv); err != nil {
			return nil, fmt.Errorf("-csv: %w", err)
		}
		series = o.series
	}
	rec.begin(series, func(err error) {
		o.failed = fmt.Errorf("-csv: the time series ends before the run: %w", err)
		rec.console.say("        %v", o.failed)
	})
	return o, o.failed
}

// close closes the file.
func (o *output) close() error {
	if o.series == nil {
		return o.failed
	}
	return errors.Join(o.failed, o.series.Close())
}
