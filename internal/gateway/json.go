package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxDepth = 8
	maxKeys  = 64
	// maxAnswerKeys is for answers, where the networks of a coin are fields of an object.
	maxAnswerKeys = 256
)

// decode reads one JSON object that fills the whole body. Together with walk, on
// which it stands, it is the only way in for what comes from the gateway.
func decode(body []byte, v any) error {
	if err := walk(body, maxAnswerKeys, nil); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		// The library's message repeats parts of the body, which belong in no log.
		return errors.New("a field has an unexpected type")
	}
	return nil
}

// visitor is shown the values of the top object and of the objects right below it;
// parent is the name of the latter and empty for the former. Names are as they are
// written. The value of what is an object or array itself is shown as its first byte.
// Nothing may be kept.
type visitor func(parent, name []byte, value jsontext.Value)

// A walker reads JSON token by token.
type walker struct {
	body  []byte
	in    bytes.Buffer
	d     jsontext.Decoder
	keys  int                // the most fields of an object
	names [maxDepth][][]byte // of the objects that are open, folded
}

// walkers are used again: callbacks come in numbers.
var walkers = sync.Pool{New: func() any { return new(walker) }}

// walk goes through one JSON object that fills the whole body.
//
// The v1 signature can be extended by anybody who has seen one: the bytes added
// begin with 0x80 and contain NUL, so a check for UTF-8 and one for control bytes
// each keep such a body out, and so does refusing anything after the object. Names
// that differ only in case are refused as duplicates: two parsers would disagree
// on which of them holds.
func walk(body []byte, keys int, visit visitor) error {
	if len(body) == 0 || body[0] != '{' {
		return errors.New("body is not a JSON object")
	}
	if !utf8.Valid(body) {
		return errors.New("body is not UTF-8")
	}
	for _, c := range body {
		if c < 0x20 && c != '\t' && c != '\n' && c != '\r' {
			return errors.New("body has control characters")
		}
	}
	w := walkers.Get().(*walker)
	defer walkers.Put(w)
	w.body, w.in, w.keys = body, *bytes.NewBuffer(body), keys
	// Our own check for duplicates is the stricter one.
	w.d.Reset(&w.in, jsontext.AllowDuplicateNames(true))
	err := w.object(1, nil, visit)
	if err == nil && len(bytes.TrimRight(body[w.d.InputOffset():], " \t\r\n")) != 0 {
		err = errors.New("body has something after the JSON object")
	}
	w.body, w.in = nil, bytes.Buffer{}
	return err
}

var errMalformed = errors.New("body is not one well-formed JSON object")

// object reads an object at a depth, the top one being at 1. The visitor is nil
// where nobody looks.
func (w *walker) object(depth int, parent []byte, visit visitor) error {
	if err := w.enter(depth); err != nil {
		return err
	}
	names := w.names[depth-1][:0]
	for w.d.PeekKind() == '"' {
		name, err := w.d.ReadValue()
		if err != nil {
			return errMalformed
		}
		// Cut from the body, because the decoder may reuse the memory of its values.
		end := w.d.InputOffset()
		folded, plain := fold(w.body[end-int64(len(name)) : end])
		if slices.ContainsFunc(names, func(other []byte) bool { return bytes.Equal(other, folded) }) {
			return errors.New("body has a field twice")
		}
		if len(names) == w.keys {
			return fmt.Errorf("body has an object with more than %d fields", w.keys)
		}
		names = append(names, folded)
		w.names[depth-1] = names
		if err := w.value(depth, parent, plain, visit); err != nil {
			return err
		}
	}
	return w.leave()
}

func (w *walker) array(depth int) error {
	if err := w.enter(depth); err != nil {
		return err
	}
	for {
		switch w.d.PeekKind() {
		case ']':
			return w.leave()
		case 0:
			return errMalformed
		}
		if err := w.value(depth, nil, nil, nil); err != nil {
			return err
		}
	}
}

// value reads what follows a name or stands in an array.
func (w *walker) value(depth int, parent, name []byte, visit visitor) error {
	kind := w.d.PeekKind()
	if kind != '{' && kind != '[' {
		v, err := w.d.ReadValue()
		if err != nil {
			return errMalformed
		}
		if visit != nil {
			visit(parent, name, v)
		}
		return nil
	}
	if visit != nil {
		visit(parent, name, jsontext.Value{byte(kind)})
	}
	if kind == '[' {
		return w.array(depth + 1)
	}
	if parent != nil {
		visit = nil // too deep to be shown
	}
	return w.object(depth+1, name, visit)
}

func (w *walker) enter(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("body is nested more than %d deep", maxDepth)
	}
	return w.leave()
}

// leave reads the bracket that opens or closes what is gone through.
func (w *walker) leave() error {
	if _, err := w.d.ReadToken(); err != nil {
		return errMalformed
	}
	return nil
}

// fold takes a quoted name, returns it plainly, and maps those that a case-insensitive
// parser would take for the same to one form. Upper before lower, because some
// characters, like the long s of U+017F, have an upper form in common with an ASCII
// letter and only then a lower one.
func fold(quoted []byte) (folded, plain []byte) {
	name := quoted[1 : len(quoted)-1]
	for _, c := range name {
		if c == '\\' || c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			plain, _ = jsontext.AppendUnquote(nil, quoted) // valid, since it was read
			return bytes.ToLower(bytes.ToUpper(plain)), plain
		}
	}
	return name, name
}

// Reserialize returns a JSON object in compact form with every string in its
// canonical escaping, so that what is handed on is our text and not the bytes
// that came in.
func Reserialize(body []byte) ([]byte, error) {
	return jsontext.AppendFormat(nil, body)
}

// text is a string that the gateway sometimes writes as a number or leaves null.
// Numbers are kept as they are written and never become floats. Anything else is
// taken for absent: a field nobody needs must not make a whole callback unreadable.
type text string

// UnmarshalJSON takes any value.
func (t *text) UnmarshalJSON(data []byte) error {
	*t = ""
	switch jsontext.Value(data).Kind() {
	case '"':
		if bytes.IndexByte(data, '\\') < 0 {
			*t = text(data[1 : len(data)-1]) // as nearly all are written
			return nil
		}
		s, err := jsontext.AppendUnquote(nil, data)
		*t = text(s)
		return err
	case '0':
		*t = text(data)
	}
	return nil
}

// flag is a boolean that must not be overlooked. What is not clearly false is true;
// told says whether there was anything.
type flag struct{ told, set bool }

// UnmarshalJSON takes any value.
func (f *flag) UnmarshalJSON(data []byte) error {
	var t text
	switch jsontext.Value(data).Kind() {
	case 'n':
		return nil
	case 'f':
		f.told = true
		return nil
	case '"', '0':
		_ = t.UnmarshalJSON(data)
	}
	f.told, f.set = true, t != "false" && t != "0"
	return nil
}
