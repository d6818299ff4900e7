package ccpayment

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// explain says why a signature may not match, having tried out what usually goes
// wrong. It tells neither the secret nor the signature that would be right.
func explain(s *signer, timestamp, sign string, body []byte) (hints []string) {
	hint := func(format string, args ...any) { hints = append(hints, fmt.Sprintf(format, args...)) }

	// 1. The form of what was given.
	switch {
	case len(timestamp) == 13 && digitsOnly(timestamp):
		hint("The timestamp has 13 digits: milliseconds. The gateway documents seconds, 10 digits.")
	case len(timestamp) != 10 || !digitsOnly(timestamp) || timestamp[0] == '0':
		hint("The timestamp is not ten digits (Unix seconds).")
	}
	given, err := hex.DecodeString(sign)
	if err != nil || len(given) != 32 {
		hint("The signature is not 64 hexadecimal digits, so it was not received whole or is none of the gateway's.")
		return hints
	}

	// 2. What would match.
	matches := func(api, appID, secret, timestamp string, body []byte) bool {
		other := &signer{api: api, appID: appID, now: s.now}
		sum := other.sum(newSecret(secret), timestamp, body)
		return bytes.Equal(sum[:], given)
	}
	api, secret := s.api, s.secrets[0].text
	other := apiV2
	if api == apiV2 {
		other = apiV1
	}
	same := func(body []byte) bool { return matches(api, s.appID, secret, timestamp, body) }
	found := len(hints)
	if len(timestamp) == 13 && same(body) {
		if api == apiV2 {
			hint("It matches with milliseconds. If the gateway sends them to you, set in the account: timestamp_unit ms")
		} else {
			hint("It matches with milliseconds, which v1 never has.")
		}
	}
	if matches(other, s.appID, secret, timestamp, body) {
		hint("It is a signature of API %s. If the account belongs to that generation, set: api %s", other, other)
	}
	for _, variant := range []struct{ what, secret string }{
		{"a line break at its end", secret + "\n"},
		{"a blank at its end", secret + " "},
		{"capital letters", strings.ToUpper(secret)},
		{"small letters", strings.ToLower(secret)},
	} {
		if variant.secret != secret && matches(api, s.appID, variant.secret, timestamp, body) {
			hint("It was made with the secret written with %s.", variant.what)
		}
	}
	for _, variant := range bodyVariants(body) {
		if !bytes.Equal(variant.body, body) && same(variant.body) {
			hint("It matches the body %s. Something on the way\n  has changed the body, or it was not saved to the byte.", variant.what)
		}
	}
	if len(hints) > found {
		return hints
	}

	// 3. What cannot be tried out.
	if same(body) {
		return hints // only its form is wrong
	}
	hint("None of the usual mistakes explains it. Check that the secret and the app id\n  belong together, and that timestamp, signature and body are from one message.")
	return hints
}

type bodyVariant struct {
	what string
	body []byte
}

// bodyVariants are the ways in which a body is often written anew.
func bodyVariants(body []byte) []bodyVariant {
	trimmed := bytes.TrimRight(body, "\r\n")
	list := []bodyVariant{
		{"without the line break at its end", trimmed},
		{"with a line break at its end", append(bytes.Clone(trimmed), '\n')},
		{"if it is empty", nil},
		{"if it is {}", []byte("{}")},
		{"with the line breaks of Windows", bytes.ReplaceAll(body, []byte("\n"), []byte("\r\n"))},
		{"with the line breaks of Unix", bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))},
	}
	var compact bytes.Buffer
	if json.Compact(&compact, body) != nil {
		return list
	}
	text := compact.Bytes()
	list = append(list,
		bodyVariant{"in compact form", text},
		bodyVariant{"with a blank behind each colon and comma, as Python writes it", spaced(text)},
		bodyVariant{"with escaped slashes, as PHP writes it", bytes.ReplaceAll(text, []byte("/"), []byte(`\/`))},
		bodyVariant{"without escaped slashes", bytes.ReplaceAll(text, []byte(`\/`), []byte("/"))},
	)
	var escaped bytes.Buffer
	json.HTMLEscape(&escaped, text)
	list = append(list, bodyVariant{`with <, > and & escaped, as Go writes it`, escaped.Bytes()})
	for _, indent := range []string{"  ", "    ", "\t"} {
		var indented bytes.Buffer
		if json.Indent(&indented, body, "", indent) == nil {
			list = append(list, bodyVariant{"in indented form", indented.Bytes()})
		}
	}
	var value any
	if json.Unmarshal(body, &value) == nil {
		if sorted, err := json.Marshal(value); err == nil {
			list = append(list, bodyVariant{"with its names sorted", sorted})
		}
	}
	return list
}

// spaced puts a blank behind every colon and comma outside of strings.
func spaced(compact []byte) []byte {
	out := make([]byte, 0, len(compact)*2)
	quoted, escaped := false, false
	for _, c := range compact {
		out = append(out, c)
		switch {
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && (c == ':' || c == ','):
			out = append(out, ' ')
		}
	}
	return out
}

func digitsOnly(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
