package ccpayment

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/store"
)

// maxEmitting is how many events wait for the handlers of Caddy events. Those are
// a convenience; the upstreams are what an event is kept for.
const maxEmitting = 4096

// emitGrace is how long a handler of Caddy events may go on when the store is closed.
const emitGrace = 3 * time.Second

// An emitter gives every new event to Caddy's event handlers, one after the other,
// without anybody having to wait for them.
type emitter struct {
	queue   chan store.Event
	app     func() *App // whose configuration is in force
	dropped atomic.Int64
	ended   chan struct{}
}

func newEmitter(app func() *App) *emitter {
	return &emitter{queue: make(chan store.Event, maxEmitting), app: app, ended: make(chan struct{})}
}

// take queues an event. The writer of the store calls it, so it does nothing else.
func (e *emitter) take(ev store.Event) {
	select {
	case e.queue <- ev:
	default:
		e.dropped.Add(1)
	}
}

// run emits until the engine is stopped.
func (e *emitter) run(done <-chan struct{}) {
	defer close(e.ended)
	for {
		select {
		case <-done:
			return
		case ev := <-e.queue:
			a := e.app()
			if a == nil {
				continue
			}
			a.emit(ev)
			if n := e.dropped.Swap(0); n > 0 {
				a.log.Warn("events were not emitted, because the handlers of Caddy events are too slow", zap.Int64("events", n))
			}
		}
	}
}

// wait gives a handler that is at work a moment to end. One that hangs must not keep
// Caddy from stopping.
func (e *emitter) wait() {
	select {
	case <-e.ended:
	case <-time.After(emitGrace):
		caddy.Log().Named("ccpayment").Warn("not waiting any longer for a handler of Caddy events")
	}
}

// emit emits one event as ccpayment.<type>. The data says which event it was and
// nothing that must not be in Caddy's debug log, where it is written.
func (a *App) emit(ev store.Event) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("a handler of Caddy events panicked", zap.String("event", ev.ID), zap.Any("error", p), zap.ByteString("stack", debug.Stack()))
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
