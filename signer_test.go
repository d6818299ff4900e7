package ccpayment

import (
	"math"
	"strings"
	"testing"
	"time"
)

func testSigner(t testing.TB, api string, secrets ...string) *signer {
	t.Helper()
	clock := func() time.Time { return time.Unix(1677152490, 0) }
	s, err := newSigner(api, testAppID, secrets, clock)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignerAgreesWithTheVectors(t *testing.T) {
	var in struct {
		AppID, Secret, Timestamp string
		Vectors                  []struct {
			Name, Body string
			V1         string `json:"v1_sign_sha256"`
			V2         string `json:"v2_sign_hmac_sha256"`
		}
	}
	readVectors(t, "signature-derived-vectors.json", &in)
	if len(in.Vectors) != 6 || in.AppID != testAppID {
		t.Fatalf("got %d vectors of %s", len(in.Vectors), in.AppID)
	}
	for _, v := range in.Vectors {
		for api, want := range map[string]string{apiV1: v.V1, apiV2: v.V2} {
			s := testSigner(t, api, in.Secret)
			appID, timestamp, sign := s.Sign([]byte(v.Body))
			if appID != in.AppID || timestamp != in.Timestamp || sign != want {
				t.Errorf("%s, %s: signed %s at %s", v.Name, api, sign, timestamp)
			}
			if at, err := s.Verify(in.AppID, in.Timestamp, want, []byte(v.Body)); err != nil || at.Unix() != 1677152490 {
				t.Errorf("%s, %s: verified at %v: %v", v.Name, api, at, err)
			}
		}
	}
}

func TestSignerRefuses(t *testing.T) {
	body := []byte(`{"a":1}`)
	for _, api := range []string{apiV1, apiV2} {
		s := testSigner(t, api, testSecret)
		_, stamp, sign := s.Sign(body)
		other := testSigner(t, map[string]string{apiV1: apiV2, apiV2: apiV1}[api], testSecret)
		_, _, otherSign := other.Sign(body)
		for _, test := range []struct {
			name, appID, stamp, sign string
			want                     error
		}{
			{"other app id", testAppID + "0", stamp, sign, errUnknownAppID},
			{"no app id", "", stamp, sign, errUnknownAppID},
			{"no timestamp", testAppID, "", sign, errTimestampForm},
			{"nine digits", testAppID, stamp[:9], sign, errTimestampForm},
			{"eleven digits", testAppID, stamp + "0", sign, errTimestampForm},
			{"milliseconds", testAppID, stamp + "000", sign, errTimestampForm},
			{"leading zero", testAppID, "0677152490", sign, errTimestampForm},
			{"sign before", testAppID, "-677152490", sign, errTimestampForm},
			{"space before", testAppID, " 677152490", sign, errTimestampForm},
			{"other digits", testAppID, "１67715249", sign, errTimestampForm},
			{"other time", testAppID, "1677152491", sign, errSignature},
			{"no signature", testAppID, stamp, "", errSignature},
			{"cut short", testAppID, stamp, sign[:62], errSignature},
			{"too long", testAppID, stamp, sign + "00", errSignature},
			{"not hexadecimal", testAppID, stamp, strings.Repeat("g", 64), errSignature},
			{"other generation", testAppID, stamp, otherSign, errSignature},
		} {
			if _, err := s.Verify(test.appID, test.stamp, test.sign, body); err != test.want {
				t.Errorf("%s, %s: %v", api, test.name, err)
			}
		}
		// The letters of hexadecimal digits are nowhere said to be lower-case.
		if _, err := s.Verify(testAppID, stamp, strings.ToUpper(sign), body); err != nil {
			t.Errorf("%s, upper case: %v", api, err)
		}
	}
}

func TestSignerThatVerifiesMilliseconds(t *testing.T) {
	s := testSigner(t, apiV2, testSecret)
	s.digits = []int{millisecondsDigits}
	body := []byte(`{"a":1}`)
	_, stamp, _ := s.Sign(body)
	if len(stamp) != 10 {
		t.Errorf("signed at %s, and not in seconds", stamp)
	}
	for stamp, good := range map[string]bool{
		"1677152490123": true, "1677152490": false, "0677152490123": false, "167715249012": false, "16771524901234": false, "16771524901２": false, "": false,
	} {
		at, err := s.Verify(testAppID, stamp, signV2(stamp, string(body)), body)
		if good != (err == nil) || good && at.UnixMilli() != 1677152490123 {
			t.Errorf("%q: %v, %v", stamp, at, err)
		}
	}
}

// TestAnswersOfV2MayBeSignedInEitherUnit: 'timestamp_unit' is about callbacks.
func TestAnswersOfV2MayBeSignedInEitherUnit(t *testing.T) {
	body := `{"code":10000}`
	for api, sign := range map[string]func(string, string) string{apiV1: signV1, apiV2: signV2} {
		for _, digits := range []int{secondsDigits, millisecondsDigits} {
			s := testSigner(t, api, testSecret)
			s.digits = []int{digits}
			for stamp, good := range map[string]bool{"1677152490": api == apiV2 || digits == secondsDigits, "1677152490123": api == apiV2 || digits == millisecondsDigits, "167715249012": false} {
				if _, err := s.forAnswers().Verify(testAppID, stamp, sign(stamp, body), []byte(body)); good != (err == nil) {
					t.Errorf("%s, callbacks in %d digits, answer at %s: %v", api, digits, stamp, err)
				}
				if _, err := s.Verify(testAppID, stamp, sign(stamp, body), []byte(body)); (len(stamp) == digits) != (err == nil) {
					t.Errorf("%s, callback in %d digits at %s: %v", api, digits, stamp, err)
				}
			}
		}
	}
}

func TestSignerWithSeveralSecrets(t *testing.T) {
	body := []byte(`{}`)
	old, both, young := testSigner(t, apiV1, "old"), testSigner(t, apiV1, "new", "old"), testSigner(t, apiV1, "new")
	for _, by := range []*signer{old, young} {
		_, stamp, sign := by.Sign(body)
		if _, err := both.Verify(testAppID, stamp, sign, body); err != nil {
			t.Error(err)
		}
	}
	_, stamp, sign := both.Sign(body)
	if _, err := young.Verify(testAppID, stamp, sign, body); err != nil {
		t.Errorf("the first secret does not sign: %v", err)
	}
	if _, err := old.Verify(testAppID, stamp, sign, body); err == nil {
		t.Error("an older secret signs")
	}
}

func TestSignerNeedsASecret(t *testing.T) {
	for _, secrets := range [][]string{nil, {""}, {"good", ""}} {
		if _, err := newSigner(apiV1, testAppID, secrets, time.Now); err == nil {
			t.Errorf("made a signer of %q", secrets)
		}
	}
	if _, err := newSigner(apiV1, "", []string{"s"}, time.Now); err == nil {
		t.Error("made a signer without app id")
	}
	if _, err := newSigner("", testAppID, []string{"s"}, time.Now); err == nil {
		t.Error("made a signer of no generation")
	}
}

// BenchmarkSign signs and verifies 1 KiB in both generations.
func BenchmarkSign(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	for _, api := range []string{apiV1, apiV2} {
		s := testSigner(b, api, testSecret)
		_, stamp, sign := s.Sign(body)
		b.Run(api+"/sign", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.Sign(body)
			}
		})
		b.Run(api+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Verify(testAppID, stamp, sign, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestSigningAllocatesLittle(t *testing.T) {
	body := []byte(strings.Repeat("x", 1024))
	for _, api := range []string{apiV1, apiV2} {
		s := testSigner(t, api, testSecret)
		// The least of many runs, since the race detector drops pooled values at random.
		least := math.Inf(1)
		for range 100 {
			least = min(least, testing.AllocsPerRun(1, func() { s.Sign(body) }))
		}
		if least > 3 {
			t.Errorf("%s: %v allocations", api, least)
		}
	}
}
