package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Failure says why a request to the gateway did not lead to a usable answer.
type Failure string

// The failures, named as the storefront API names them.
const (
	Refused      Failure = "gateway_refused"
	BadSignature Failure = "gateway_bad_signature"
	Unreachable  Failure = "gateway_unreachable"
)

// An Error is a request to the gateway that failed.
type Error struct {
	Failure  Failure
	Endpoint string
	// Code, Msg and Reason are the gateway's words on a refusal.
	Code   int
	Msg    string
	Reason string
	// Hint is what an operator should look at, where more is known than the code says.
	Hint string
	// Err is the cause of every other failure.
	Err error

	after time.Duration // see RetryAfter
}

func (e *Error) Error() string {
	if e.Failure == Refused && e.Err == nil {
		s := fmt.Sprintf("%s: the gateway refused with code %d: %s", e.Endpoint, e.Code, e.Msg)
		if e.Reason != "" {
			s += " (" + e.Reason + ")"
		}
		if hint := cmp.Or(e.Hint, refusals[e.Code].hint); hint != "" {
			s += "; " + hint
		}
		return s
	}
	return fmt.Sprintf("%s: %v", e.Endpoint, e.Err)
}

// Unwrap returns the cause, so that a caller can tell its own cancellation.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same request may succeed later.
func (e *Error) Retryable() bool { return e.Failure != Refused || refusals[e.Code].again }

// RetryAfter is how long to wait after a refusal that says so; else zero.
func (e *Error) RetryAfter() time.Duration {
	if e.Failure == Refused {
		return max(e.after, refusals[e.Code].wait)
	}
	return 0
}

// OtherMethod reports whether the gateway has refused the coin and might take another.
func (e *Error) OtherMethod() bool { return e.Failure == Refused && refusals[e.Code].coin }

// concernsAll reports whether it is a refusal after which the next request would fare no
// better, whatever it is about.
func (e *Error) concernsAll() bool {
	return e.Failure == Refused && e.Err == nil && (refusals[e.Code].all || refusals[e.Code].wait > 0)
}

// IsDuplicate reports whether the gateway has refused an order because it has one with
// the same reference.
func IsDuplicate(err error) bool { return refusedWith(err, codeDuplicate) }

// refusedWith reports whether an error is a refusal with one of some codes.
func refusedWith(err error, codes ...int) bool {
	var e *Error
	return errors.As(err, &e) && e.Failure == Refused && e.Err == nil && slices.Contains(codes, e.Code)
}

// Codes of refusals that are acted on. Those of five digits are from API v2's table of
// error codes (https://ccpayment.com/api/doc, "Error Code"); v1's table is not public.
const (
	codeFailed       = 10001
	codeArgument     = 11000
	codeInternal     = 11002
	codeNotFound     = 11003
	codeRateLimit    = 11004
	codeDuplicate    = 11011
	codeOnlyV1       = 11013
	codeFrequent     = 11018
	codeServiceError = 224066 // v1: "Service error, please try again"
	codeOnlyV2       = 225213
)

// A refusal is what is known of a code.
type refusal struct {
	hint  string        // what an operator should look at
	again bool          // the same request may succeed later
	wait  time.Duration // but not before
	coin  bool          // it is about the coin or its network
	all   bool          // it is about the account or this server
}

// rateLimitWait is the wait after a refusal for too many requests. How long the
// gateway counts is not documented.
const rateLimitWait = 30 * time.Second

var refusals = map[int]refusal{
	codeServiceError: {again: true},
	codeInternal:     {again: true},
	codeRateLimit:    {hint: "too many requests in a short time", again: true, wait: rateLimitWait},
	codeFrequent:     {hint: "too many requests in a short time", again: true, wait: rateLimitWait},
	11009:            {hint: "the gateway's limit of a day is reached", all: true},
	11005:            {hint: "the signature does not match: look at 'app_id', 'app_secret' and 'api'", all: true},
	11006:            {hint: "the request was too old for the gateway: look at this machine's clock", all: true},
	codeDuplicate:    {hint: "the gateway has an order of this reference already", again: true},
	11012:            {hint: "'valid_for' is longer than the gateway allows"},
	codeOnlyV1:       {hint: "the merchant account belongs to API v1: set 'api v1' in the global option block 'ccpayment' and name each method by its token id", all: true},
	codeOnlyV2:       {hint: "the merchant account belongs to API v2: set 'api v2' in the global option block 'ccpayment' and name each method by coin id and chain", all: true},
	11014:            {hint: "the gateway has blocked this server's address for five days", all: true},
	12000:            {hint: "the merchant account is disabled", all: true},
	12001:            {hint: "the gateway does not know the account: look at 'app_id'", all: true},
	12002:            {hint: "this server's address is not in the account's allow-list, on the Developer page of the gateway's dashboard", all: true},
	12003:            {hint: "the account may not use the API before its website is verified", all: true},
	13000:            {hint: "the gateway does not offer the coin: look at 'method'", coin: true},
	13001:            {hint: "the gateway does not offer the coin on this chain: look at 'method'", coin: true},
	13002:            {hint: "the coin's price is not usual at present", again: true, coin: true},
	13003:            {hint: "the coin's price is not usual at present", again: true, coin: true},
	13004:            {hint: "the coin's network is not stable at present", again: true, coin: true},
	13005:            {hint: "the coin is not in its normal state at present", again: true, coin: true},
	14010:            {hint: "the gateway does not offer the coin: look at 'method'", coin: true},
	14013:            {hint: "the amount has more decimals than the coin has on this chain", coin: true},
	15000:            {hint: "the gateway could not make an address", again: true, coin: true},
	15001:            {hint: "the account has all the addresses it may have", coin: true},
	15003:            {hint: "the gateway takes no deposits on this chain at present", again: true, coin: true},
}
