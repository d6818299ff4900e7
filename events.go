package ccpayment

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// maxEmitting is how many events wait for the handlers of Caddy events. Those are
// a convenience; the upstreams are what an event is kept for.
const maxEmitting = 4096

// An emitter gives every new event to Caddy's event handlers, one after the other,
// without the writer having to wait for them.
type emitter struct {
	queue chan store.Event
	app   func() *App // whose configuration is in force
}

func newEmitter(app func() *App) *emitter {
	return &emitter{queue: make(chan store.Event, maxEmitting), app: app}
}

// take queues an event. It never waits.
func (e *emitter) take(ev store.Event) {
	select {
	case e.queue <- ev:
	default:
		if a := e.app(); a != nil {
			a.log.Warn("not emitting event, because the handlers of Caddy events are too slow", zap.String("event", ev.ID))
		}
	}
}

// run emits until the engine is stopped.
func (e *emitter) run(done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		case ev := <-e.queue:
			if a := e.app(); a != nil {
				a.emit(ev)
			}
		}
	}
}

// emit emits one event as ccpayment.<type>. The data says which event it was and
// nothing that must not be in Caddy's debug log, where it is written.
func (a *App) emit(ev store.Event) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a handler of Caddy events panicked", zap.String("event", ev.ID), zap.Any("error", p))
		}
	}()
	a.events.Emit(a.ctx, "ccpayment."+ev.Type, map[string]any{
		"id":      ev.ID,
		"type":    ev.Type,
		"account": ev.Account,
		"subject": ev.Subject,
		"origin":  ev.Origin,
	})
}

// eventsApp returns Caddy's app of events.
func eventsApp(ctx caddy.Context) (*caddyevents.App, error) {
	v, err := ctx.App("events")
	if err != nil {
		return nil, fmt.Errorf("getting the events app: %v", err)
	}
	return v.(*caddyevents.App), nil
}
