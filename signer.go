package ccpayment

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"sync"
	"time"
)

// API generations of the gateway. A merchant account belongs to exactly one of
// them, so the generation is configured and never negotiated.
const (
	apiV1 = "v1"
	apiV2 = "v2"
)

// Units of the timestamps that are verified, and the digits they have.
const (
	unitSeconds      = "s"
	unitMilliseconds = "ms"

	secondsDigits      = 10
	millisecondsDigits = 13
)

// Reasons for which a signature is not accepted. They tell an operator what to
// look at; a caller is told none of them.
var (
	errTimestampForm = errors.New("timestamp is not ten digits, or thirteen with 'timestamp_unit ms'")
	errUnknownAppID  = errors.New("unknown app id")
	errSignature     = errors.New("signature does not match")
)

// A signer makes and checks the signatures of one merchant account.
//
// v1 is lowercase hex of SHA-256 over app id, secret, timestamp and body; v2 is
// lowercase hex of HMAC-SHA256 with the secret as key over app id, timestamp and
// body. Neither has separators, which is why the timestamp must have exactly as many
// digits as its unit has, ten or thirteen: a bent split of the same bytes would
// otherwise carry the same signature.
//
// Source: https://docs.ccpayment.com/ (v1, "Signature"), https://ccpayment.com/api/doc (v2).
type signer struct {
	api     string
	appID   string
	secrets []*secret // the first signs, all verify
	now     func() time.Time
	digits  []int // that a timestamp may have which is verified
}

// newSigner returns the signer of an account. At least one secret is needed and
// none may be empty: an empty secret would let anybody sign.
func newSigner(api, appID string, secrets []string, now func() time.Time) (*signer, error) {
	if api != apiV1 && api != apiV2 {
		return nil, fmt.Errorf("unrecognized api %q; known: v1, v2", api)
	}
	if appID == "" {
		return nil, errors.New("app_id is empty")
	}
	if len(secrets) == 0 {
		return nil, errors.New("app_secret is missing")
	}
	if slices.Contains(secrets, "") {
		return nil, errors.New("app_secret is empty")
	}
	s := &signer{api: api, appID: appID, now: now, digits: []int{secondsDigits}}
	for _, text := range secrets {
		s.secrets = append(s.secrets, newSecret(text))
	}
	return s, nil
}

// forAnswers is the signer that verifies the gateway's answers. Those of API v2 may be
// signed in either unit, whatever that of its callbacks is: nothing is documented about
// them, and an answer's age is not judged.
func (s *signer) forAnswers() *signer {
	answers := *s
	if s.api == apiV2 {
		answers.digits = []int{secondsDigits, millisecondsDigits}
	}
	return &answers
}

// Sign signs a body with the newest secret and the current time. The timestamp
// is Unix seconds in ten digits, the signature 64 lowercase hex digits.
func (s *signer) Sign(body []byte) (appID, timestamp, sign string) {
	timestamp = strconv.FormatInt(s.now().Unix(), 10)
	sum := s.sum(s.secrets[0], timestamp, body)
	var digits [2 * sha256.Size]byte
	hex.Encode(digits[:], sum[:])
	return s.appID, timestamp, string(digits[:])
}

// Verify checks a signature over the exact bytes of a body and returns the time
// at which it was made. Whether that time is recent enough is the caller's to
// judge: a stale callback is treated differently from a stale answer.
func (s *signer) Verify(appID, timestamp, sign string, body []byte) (time.Time, error) {
	signedAt, err := parseTimestamp(timestamp, s.digits)
	if err != nil {
		return time.Time{}, err
	}
	if subtle.ConstantTimeCompare([]byte(appID), []byte(s.appID)) != 1 {
		return time.Time{}, errUnknownAppID
	}
	var got [sha256.Size]byte
	if len(sign) != hex.EncodedLen(len(got)) {
		return time.Time{}, errSignature
	}
	if _, err := hex.Decode(got[:], []byte(sign)); err != nil {
		return time.Time{}, errSignature
	}

	// Every secret is tried, so that the time taken does not tell which one matched.
	matched := 0
	for _, k := range s.secrets {
		want := s.sum(k, timestamp, body)
		matched |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	if matched != 1 {
		return time.Time{}, errSignature
	}
	return signedAt, nil
}

// sum computes the signature of the account's generation.
func (s *signer) sum(k *secret, timestamp string, body []byte) [sha256.Size]byte {
	scratch := buffers.Get().(*[]byte)
	defer buffers.Put(scratch)
	buf := append((*scratch)[:0], s.appID...)
	defer func() { *scratch = buf[:0] }()
	if s.api == apiV1 {
		buf = append(buf, k.text...)
		buf = append(buf, timestamp...)
		buf = append(buf, body...)
		return sha256.Sum256(buf)
	}
	buf = append(buf, timestamp...)
	buf = append(buf, body...)
	mac := k.macs.Get().(hash.Hash)
	defer k.macs.Put(mac)
	mac.Reset()
	mac.Write(buf)
	return [sha256.Size]byte(mac.Sum(buf[:0]))
}

// buffers hold a message while it is hashed.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// A secret is a key, with the keyed hashes that were made of it before.
type secret struct {
	text string
	macs sync.Pool
}

func newSecret(text string) *secret {
	k := &secret{text: text}
	k.macs.New = func() any { return hmac.New(sha256.New, []byte(text)) }
	return k
}

// parseTimestamp takes a Unix time of exactly one of some numbers of digits, the first
// not zero: ten are seconds, thirteen milliseconds.
func parseTimestamp(s string, digits []int) (time.Time, error) {
	if !slices.Contains(digits, len(s)) || s[0] == '0' {
		return time.Time{}, errTimestampForm
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return time.Time{}, errTimestampForm
		}
		n = n*10 + int64(s[i]-'0')
	}
	if len(s) == millisecondsDigits {
		return time.UnixMilli(n), nil
	}
	return time.Unix(n, 0), nil
}
