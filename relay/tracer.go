package relay

import "context"

// Tracer starts spans. The gateway makes short ones, one an event, and links them to the span of the upgrade request
// through the context it was given in [Ticket.Serve]. Safe for concurrent use.
type Tracer interface {
	// Traces reports whether spans below the one in ctx are kept. It is asked once a session.
	Traces(ctx context.Context) bool
	// Start begins a span called name ("icws.open", "icws.call", "icws.deliver") below the span in ctx,
	// if there is one. attrs are pairs of names and values. The returned function ends the span; a non-nil error
	// marks it as failed.
	Start(ctx context.Context, name string, attrs ...string) (context.Context, func(error))
}

// nopTracer traces nothing.
type nopTracer struct{}

func (nopTracer) Traces(context.Context) bool { return false }

func (nopTracer) Start(ctx context.Context, _ string, _ ...string) (context.Context, func(error)) {
	return ctx, func(error) {}
}
