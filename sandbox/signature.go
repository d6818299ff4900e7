package sandbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"
)

// signatureWindow is how long a request is valid, according to the gateway. The
// documentation does not say whether a clock may run ahead; it may by as much.
const signatureWindow = 2 * time.Minute

// sign is the gateway's v1 signature, which serves requests, answers and
// callbacks alike: lowercase hex of SHA-256 over app id, secret, timestamp and
// body, without separators.
func sign(appID, secret, timestamp string, body []byte) string {
	h := sha256.New()
	h.Write([]byte(appID))
	h.Write([]byte(secret))
	h.Write([]byte(timestamp))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// signV2 is the gateway's v2 signature of requests and callbacks: lowercase hex of
// HMAC-SHA256 with the secret as key over app id, timestamp and body.
func signV2(appID, secret, timestamp string, body []byte) string {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(appID))
	h.Write([]byte(timestamp))
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// signatures are those of both generations.
var signatures = map[string]func(appID, secret, timestamp string, body []byte) string{apiV1: sign, apiV2: signV2}

// setSignature signs body as of now, as a generation does.
func setSignature(h http.Header, api, appID, secret string, now time.Time, body []byte) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	h.Set("Appid", appID)
	h.Set("Timestamp", timestamp)
	h.Set("Sign", signatures[api](appID, secret, timestamp, body))
}

// verify checks the signature of a request to a generation. It is strict where the formula is
// weak: since nothing separates the parts, a timestamp of another length would
// let bytes move between timestamp and body.
func (s *Sandbox) verify(api string, h http.Header, body []byte) *apiError {
	var v [3]string
	for i, name := range []string{"Appid", "Timestamp", "Sign"} {
		values := h.Values(name)
		if len(values) != 1 || values[0] == "" {
			return &apiError{codeHeader, "HeaderInvalidArgument", "header " + name + " must be given exactly once"}
		}
		v[i] = values[0]
	}
	appID, timestamp, signature := v[0], v[1], v[2]

	if subtle.ConstantTimeCompare([]byte(appID), []byte(s.AppID)) != 1 {
		return &apiError{codeMerchant, "MerchantNotFound", "unknown Appid"}
	}
	if !tenDigits(timestamp) {
		return &apiError{codeHeader, "HeaderInvalidArgument", "header Timestamp must be exactly 10 digits (seconds)"}
	}
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return &apiError{codeHeader, "HeaderInvalidArgument", "header Timestamp must be exactly 10 digits (seconds)"}
	}
	age := s.state.now().Unix() - seconds
	if window := int64(signatureWindow / time.Second); age > window || age < -window {
		return &apiError{codeExpired, "ReqExpired", "the request is valid for two minutes"}
	}
	want := signatures[api](s.AppID, s.secret, timestamp, body)
	if subtle.ConstantTimeCompare([]byte(signature), []byte(want)) != 1 {
		return &apiError{codeSignature, "VerifySignFailed", "signature verification failed"}
	}
	return nil
}

func tenDigits(s string) bool {
	if len(s) != 10 {
		return false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
