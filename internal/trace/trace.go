// Package trace carries traces of OpenTelemetry on: from a request that Caddy's
// tracing has given a span to the gateway, and through the store to the upstreams.
package trace

import (
	"context"
	"net/http"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Transport adds to each request that belongs to a trace the headers that say so,
// those that Caddy's tracing uses, and a span of its own where the trace is recorded
// by this process. Other requests pass as they are.
func Transport(base http.RoundTripper) http.RoundTripper {
	return &transport{base: base, RoundTripper: otelhttp.NewTransport(base,
		otelhttp.WithPropagators(autoprop.NewTextMapPropagator()),
		otelhttp.WithFilter(func(r *http.Request) bool { return trace.SpanContextFromContext(r.Context()).IsValid() }),
		otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return r.Method + " " + r.URL.Host }),
	)}
}

// A transport lets the connections of the one below be closed. The wrapper of
// OpenTelemetry hides them, and each reload would leave its own open.
type transport struct {
	http.RoundTripper
	base http.RoundTripper
}

// CloseIdleConnections does what http.Client expects of a transport.
func (t *transport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

const traceparent = "traceparent"

// Parent returns the place of a context in its trace as a W3C traceparent, or nothing
// if it belongs to none.
// Source: https://www.w3.org/TR/trace-context/
func Parent(ctx context.Context) string {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier[traceparent]
}

// WithParent continues a trace in a context. What is not a traceparent is no trace.
func WithParent(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: parent})
}
