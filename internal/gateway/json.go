package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxDepth = 8
	maxKeys  = 64
)

// decode reads one JSON object that fills the whole body. It is the only decoder
// of what comes from the gateway, for callbacks and answers alike.
//
// The v1 signature can be extended by anybody who has seen one: the bytes added
// begin with 0x80 and contain NUL, so a check for UTF-8 and one for control bytes
// each keep such a body out, and so does refusing anything after the object. Names
// that differ only in case are refused as duplicates: two parsers would disagree
// on which of them holds.
func decode(body []byte, v any) error {
	if err := wall(body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		// The library's message repeats parts of the body, which belong in no log.
		return errors.New("a field has an unexpected type")
	}
	return nil
}

func wall(body []byte) error {
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

	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	var names [maxDepth][]string // of the objects that are open, folded
	for {
		depth := d.StackDepth()
		kind, length := d.StackIndex(depth)
		isName := kind == '{' && length%2 == 0
		token, err := d.ReadToken()
		if err != nil {
			return errors.New("body is not one well-formed JSON object")
		}
		switch token.Kind() {
		case '{', '[':
			if depth+1 > maxDepth {
				return fmt.Errorf("body is nested more than %d deep", maxDepth)
			}
			names[depth] = names[depth][:0]
		case '}', ']':
			if depth == 1 {
				rest := bytes.TrimRight(body[d.InputOffset():], " \t\r\n")
				if len(rest) != 0 {
					return errors.New("body has something after the JSON object")
				}
				return nil
			}
		case '"':
			if !isName {
				continue
			}
			open := &names[depth-1]
			name := fold(token.String())
			if slices.Contains(*open, name) {
				return errors.New("body has a field twice")
			}
			if len(*open) == maxKeys {
				return fmt.Errorf("body has an object with more than %d fields", maxKeys)
			}
			*open = append(*open, name)
		}
	}
}

// fold maps names that a case-insensitive parser would take for the same to one
// form. Upper before lower, because some characters, like the long s of U+017F,
// have an upper form in common with an ASCII letter and only then a lower one.
func fold(name string) string {
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || c >= 'A' && c <= 'Z' {
			return strings.ToLower(strings.ToUpper(name))
		}
	}
	return name
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
		s, err := jsontext.AppendUnquote(nil, data)
		*t = text(s)
		return err
	case '0', 't', 'f':
		*t = text(data)
	}
	return nil
}
