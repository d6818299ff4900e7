package catalog

import (
	"errors"
	"fmt"
	"os"
	"sync"
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
	seen os.FileInfo // nil if the file was missing
}

// Open reads a price list from a file. Later, a file that has become unreadable
// or wrong is reported once to onError, and the last good list stays in force.
func Open(path, currency string, further []Product, onError func(error)) (*File, error) {
	f := &File{path: path, currency: currency, further: further, onError: onError}
	var err error
	if f.seen, err = f.stat(); err != nil {
		return nil, err
	}
	if f.list, err = f.read(); err != nil {
		return nil, err
	}
	f.currency = f.list.Currency // a price must not change its meaning later
	return f, nil
}

// List returns the price list in force, after reading a file that has changed.
func (f *File) List() *List {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := f.stat()
	if same(f.seen, info) {
		return f.list
	}
	f.seen = info
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

// same reports whether a file is as it was before, missing twice included.
func same(before, after os.FileInfo) bool {
	if before == nil || after == nil {
		return before == nil && after == nil
	}
	return os.SameFile(before, after) && before.ModTime().Equal(after.ModTime()) && before.Size() == after.Size()
}

func (f *File) stat() (os.FileInfo, error) {
	info, err := os.Stat(f.path)
	if err != nil {
		return nil, fmt.Errorf("price list %s: %w", f.path, errors.Unwrap(err))
	}
	return info, nil
}

func (f *File) read() (*List, error) {
	info, err := f.stat()
	if err != nil {
		return nil, err
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
