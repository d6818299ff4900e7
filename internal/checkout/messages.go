package checkout

import (
	"embed"
	"encoding/json"
	"fmt"
	"mime"
	"path"
	"slices"
	"strconv"
	"strings"
)

// The texts are one flat list for each language. These pages and the element in the
// shop's own page read the same files.
//
//go:embed messages/*.json
var messageFiles embed.FS

// fallback is the language of those who speak none of the others.
const fallback = "en"

// messages are the texts of one language by key.
type messages map[string]string

// texts are the messages of every language by its tag.
var texts = readMessages()

func readMessages() map[string]messages {
	all := make(map[string]messages)
	for _, lang := range Languages() {
		data, err := messageFiles.ReadFile("messages/" + lang + ".json")
		var m messages
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			panic(fmt.Sprintf("messages: %s: %v", lang, err)) // embedded, so a fault of the build
		}
		all[lang] = m
	}
	return all
}

// Languages are the tags of the languages there are texts in.
func Languages() []string {
	files, _ := messageFiles.ReadDir("messages") // embedded
	tags := make([]string, len(files))
	for i, f := range files {
		tags[i] = strings.TrimSuffix(f.Name(), path.Ext(f.Name()))
	}
	return tags
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

// match finds the language of a tag: itself, else one of the same primary language,
// so that "pt" and "pt-PT" get "pt-BR".
func match(tag string) (string, bool) {
	primary := func(tag string) string {
		base, _, _ := strings.Cut(tag, "-")
		return base
	}
	same := ""
	for _, lang := range Languages() {
		if strings.EqualFold(lang, tag) {
			return lang, true
		}
		if strings.EqualFold(primary(lang), primary(tag)) {
			same = lang
		}
	}
	return same, same != ""
}

// Language chooses the language for the values of an Accept-Language header.
func Language(accept []string) string {
	type choice struct {
		lang string
		q    float64
	}
	var choices []choice
	for _, header := range accept {
		for part := range strings.SplitSeq(header, ",") {
			// The values have the form of media types but for the slash.
			tag, params, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			q := 1.0
			if s, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(s, 64); err != nil {
					continue
				}
			}
			if lang, ok := match(tag); ok && q > 0 {
				choices = append(choices, choice{lang, q})
			}
		}
	}
	if len(choices) == 0 {
		return fallback
	}
	slices.SortStableFunc(choices, func(a, b choice) int {
		switch {
		case a.q > b.q:
			return -1
		case a.q < b.q:
			return 1
		}
		return 0
	})
	return choices[0].lang
}
