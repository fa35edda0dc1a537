package caddymodule

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/icws-gateway/caddy-icws/relay"
)

// tracerName is the instrumentation scope of the spans.
const tracerName = "github.com/icws-gateway/caddy-icws"

// tracer makes the gateway's spans with the provider of the span in the context, which is that of Caddy's `tracing`
// directive on the opening request. Nothing global is touched, and requests that are not traced pay nothing.
type tracer struct{}

// Traces implements relay.Tracer.
func (tracer) Traces(ctx context.Context) bool { return trace.SpanContextFromContext(ctx).IsSampled() }

// Start implements relay.Tracer.
func (tracer) Start(ctx context.Context, name string, attrs ...string) (context.Context, func(error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.SpanContext().IsSampled() {
		return ctx, func(error) {}
	}
	values := make([]attribute.KeyValue, 0, len(attrs)/2)
	for i := 0; i+1 < len(attrs); i += 2 {
		values = append(values, attribute.String(attrs[i], attrs[i+1]))
	}
	ctx, span := parent.TracerProvider().Tracer(tracerName).Start(ctx, name, trace.WithAttributes(values...))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// Interface guard
var _ relay.Tracer = tracer{}
