package checkout

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

// The texts are one flat list for each language, so that other readers than these
// pages can use them too.
//
//go:embed messages/en.json
var english []byte

// messages are the texts of one language by key.
type messages map[string]string

var texts = parseMessages(english)

func parseMessages(data []byte) messages {
	var m messages
	if err := json.Unmarshal(data, &m); err != nil {
		panic(fmt.Sprintf("messages: %v", err)) // embedded, so a fault of the build
	}
	return m
}

// text returns a text with its placeholders, like {amount}, filled in pairs.
func (m messages) text(key string, pairs ...string) (string, error) {
	s, ok := m[key]
	if !ok {
		return "", fmt.Errorf("there is no message %q", key)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		s = strings.ReplaceAll(s, "{"+pairs[i]+"}", pairs[i+1])
	}
	return s, nil
}
