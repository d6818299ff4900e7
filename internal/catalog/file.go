package catalog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// maxFileSize bounds a price list: some ten thousand products.
const maxFileSize = 4 << 20

// A File is a price list on disk. It is read again when it changes, so that a
// shop can change prices by replacing a file.
type File struct {
	path     string
	currency string
	further  []Product
	onError  func(error)

	mu   sync.Mutex
	list *List
	seen version
}

// version tells one state of a file from another.
type version struct {
	modified time.Time
	size     int64
}

// Open reads a price list from a file. Later, a file that has become unreadable
// or wrong is reported once to onError, and the last good list stays in force.
func Open(path, currency string, further []Product, onError func(error)) (*File, error) {
	f := &File{path: path, currency: currency, further: further, onError: onError}
	v, err := f.stat()
	if err != nil {
		return nil, err
	}
	if f.list, err = f.read(); err != nil {
		return nil, err
	}
	f.seen = v
	return f, nil
}

// List returns the price list in force, after reading a file that has changed.
func (f *File) List() *List {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, err := f.stat()
	if err == nil && v == f.seen {
		return f.list
	}
	if err != nil && f.seen == (version{}) {
		return f.list // missing, and already said so
	}
	f.seen = v
	if err == nil {
		var list *List
		if list, err = f.read(); err == nil {
			f.list = list
			return list
		}
	}
	f.onError(err)
	return f.list
}

func (f *File) stat() (version, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return version{}, fmt.Errorf("price list %s: %w", f.path, errors.Unwrap(err))
	}
	return version{modified: info.ModTime(), size: info.Size()}, nil
}

func (f *File) read() (*List, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", f.path, errors.Unwrap(err))
	}
	if info.Size() > maxFileSize {
		return nil, fmt.Errorf("price list %s: larger than %d bytes", f.path, maxFileSize)
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", f.path, errors.Unwrap(err))
	}
	list, err := Parse(data, f.currency, f.further)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", f.path, err)
	}
	return list, nil
}
