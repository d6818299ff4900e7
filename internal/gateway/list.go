package gateway

import (
	"context"
	"sync"
	"time"
)

const (
	// listFresh is how long a list of the gateway is used, listRetry how long it is not
	// asked for again when it could not be had.
	listFresh = time.Hour
	listRetry = time.Minute
)

// A list is an answer that changes seldom. An old one is better than none.
type list[T any] struct {
	mu    sync.Mutex
	known bool
	value T
	err   error
	asked time.Time
}

// get returns the list, asking for it where there is no fresh one. Those who come
// meanwhile wait for the same answer.
func (l *list[T]) get(ctx context.Context, fetch func(context.Context) (T, error)) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	age := time.Since(l.asked)
	if l.asked.IsZero() || age >= listFresh || l.err != nil && age >= listRetry {
		l.keep(fetch(ctx))
	}
	if l.known {
		return l.value, nil
	}
	return l.value, l.err
}

// set takes a list that was asked for by others.
func (l *list[T]) set(value T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(value, nil)
}

func (l *list[T]) keep(value T, err error) {
	l.asked = time.Now()
	if l.err = err; err == nil {
		l.value, l.known = value, true
	}
}
