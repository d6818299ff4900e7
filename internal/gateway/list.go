package gateway

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// listFresh is how long a list of the gateway is used, listRetry how long it is not
	// asked for again when it could not be had: buyers must not be able to make this
	// server ask and ask.
	listFresh = time.Hour
	listRetry = time.Minute
)

// A list is an answer that changes seldom. An old one is better than none, and better
// than waiting: it is renewed behind its back.
type list[T any] struct {
	flight singleflight.Group

	mu    sync.Mutex
	known bool
	value T
	err   error
	asked time.Time
}

// get returns the list, asking for it where there is no fresh one. Those who come
// meanwhile wait for the same answer, as long as they like.
func (l *list[T]) get(ctx context.Context, fetch func(context.Context) (T, error)) (T, error) {
	value, known, fresh, err := l.cached()
	if fresh {
		return value, err
	}
	flight := l.ask(ctx, fetch)
	if known {
		return value, nil
	}
	select {
	case <-flight:
	case <-ctx.Done():
		return value, ctx.Err()
	}
	value, _, _, err = l.cached()
	return value, err
}

// renew asks for the list and waits for it, unless that was done a moment ago.
func (l *list[T]) renew(ctx context.Context, fetch func(context.Context) (T, error)) {
	l.mu.Lock()
	age := time.Since(l.asked)
	l.mu.Unlock()
	if age < listRetry {
		return
	}
	select {
	case <-l.ask(ctx, fetch):
	case <-ctx.Done():
	}
}

// ask asks for the list. Whoever waits cannot call it off for the others; it is bounded by
// the time-out of the client. A panic there, where nobody recovers, would end the server.
func (l *list[T]) ask(ctx context.Context, fetch func(context.Context) (T, error)) <-chan singleflight.Result {
	return l.flight.DoChan("", func() (any, error) {
		defer func() {
			if p := recover(); p != nil {
				l.keep(*new(T), fmt.Errorf("panic: %v", p))
			}
		}()
		l.keep(fetch(context.WithoutCancel(ctx)))
		return nil, nil
	})
}

// cached returns what is known, and whether that is fresh. The error is there only if
// nothing is known.
func (l *list[T]) cached() (value T, known, fresh bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	age := time.Since(l.asked)
	fresh = !l.asked.IsZero() && (age < listRetry || l.err == nil && age < listFresh)
	if !l.known {
		err = l.err
	}
	return l.value, l.known, fresh, err
}

func (l *list[T]) keep(value T, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = time.Now()
	if l.err = err; err == nil {
		l.value, l.known = value, true
	}
}
