// Package trace carries traces of OpenTelemetry on: from a request that Caddy's
// tracing has given a span to the gateway, and through the store to the upstreams.
package trace

import (
	"context"
	"net/http"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Transport adds to each request that belongs to a trace the headers that say so,
// those that Caddy's tracing uses, and a span of its own where the trace is recorded
// by this process. Other requests pass as they are. OpenTelemetry's own transport is not
// used because its spans tell the whole URL, and that of an upstream may hold a key.
func Transport(base http.RoundTripper) http.RoundTripper {
	return &transport{base: base, propagator: autoprop.NewTextMapPropagator()}
}

type transport struct {
	base       http.RoundTripper
	propagator propagation.TextMapPropagator
}

const tracer = "github.com/caddy-ccpayment/caddy-ccpayment"

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	parent := trace.SpanFromContext(r.Context())
	if !parent.SpanContext().IsValid() {
		return t.base.RoundTrip(r)
	}
	ctx, span := parent.TracerProvider().Tracer(tracer).Start(r.Context(), r.Method+" "+r.URL.Hostname(),
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("server.address", r.URL.Hostname())))
	defer span.End()
	r = r.Clone(ctx) // a RoundTripper must not change the request
	t.propagator.Inject(ctx, propagation.HeaderCarrier(r.Header))
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		span.SetStatus(codes.Error, "no answer")
		return nil, err
	}
	span.SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	return resp, nil
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
