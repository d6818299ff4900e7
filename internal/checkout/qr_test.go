package checkout_test

import (
	"bytes"
	"encoding/xml"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	"github.com/caddy-ccpayment/caddy-ccpayment/internal/bill"
	"github.com/caddy-ccpayment/caddy-ccpayment/internal/checkout"
)

const (
	bitcoinAddress = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
	ethAddress     = "0x3b55Ec4D9d15528B78958Fd3EeEAe87a893EDffF"
)

func TestTheCodeHoldsAnURIOnlyWhereWalletsReadThemAlike(t *testing.T) {
	btc := bill.Token{Crypto: "BTC", Network: "Bitcoin", Chain: "BTC"}
	for name, tc := range map[string]struct {
		pays    bill.Token
		address string
		memo    string
		payload string
		uri     bool
	}{
		"Bitcoin":                       {btc, bitcoinAddress, "", "bitcoin:" + bitcoinAddress + "?amount=30.0137", true},
		"Bitcoin, address in capitals":  {btc, strings.ToUpper(bitcoinAddress), "", "bitcoin:" + strings.ToUpper(bitcoinAddress) + "?amount=30.0137", true},
		"Bitcoin, named in small":       {bill.Token{Crypto: "btc", Chain: "bitcoin"}, bitcoinAddress, "", "bitcoin:" + bitcoinAddress + "?amount=30.0137", true},
		"Litecoin":                      {bill.Token{Crypto: "LTC", Chain: "LTC"}, "ltc1q", "", "litecoin:ltc1q?amount=30.0137", true},
		"Bitcoin Cash":                  {bill.Token{Crypto: "BCH", Chain: "BCH"}, "qpm2", "", "bitcoincash:qpm2?amount=30.0137", true},
		"Bitcoin Cash with its scheme":  {bill.Token{Crypto: "BCH", Chain: "BCH"}, "bitcoincash:qpm2", "", "bitcoincash:qpm2?amount=30.0137", true},
		"Dogecoin":                      {bill.Token{Crypto: "DOGE", Chain: "DOGE"}, "D9", "", "dogecoin:D9?amount=30.0137", true},
		"Bitcoin on BSC":                {bill.Token{Crypto: "BTC", Network: "BEP20", Chain: "BSC"}, ethAddress, "", ethAddress, false},
		"Bitcoin on a chain not told":   {bill.Token{Crypto: "BTC", Network: "Bitcoin"}, bitcoinAddress, "", bitcoinAddress, false},
		"another coin named as Bitcoin": {bill.Token{Crypto: "USDT", Chain: "BTC"}, bitcoinAddress, "", bitcoinAddress, false},
		"Dogecoin on BSC":               {bill.Token{Crypto: "DOGE", Chain: "BSC"}, ethAddress, "", ethAddress, false},
		"USDT on TRON":                  {usdt, address, "", address, false},
		"Ether":                         {bill.Token{Crypto: "ETH", Chain: "ETH"}, ethAddress, "", ethAddress, false},
		"a memo, which no URI carries":  {bill.Token{Crypto: "XRP", Chain: "XRP"}, "rXRP", "12345", "rXRP", false},
		"Bitcoin with a memo":           {btc, bitcoinAddress, "12345", bitcoinAddress, false},
		"no address":                    {usdt, "", "", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			b := example()
			b.Pays, b.Address, b.Memo = tc.pays, tc.address, tc.memo
			b.Payments, b.Due = nil, amount("30.0137")
			if got := checkout.Payload(b, now); got != tc.payload {
				t.Errorf("payload is %q, want %q", got, tc.payload)
			}
			pay := checkout.Describe(b, now, links).Pay
			if (pay.URI != nil) != tc.uri || tc.uri && *pay.URI != tc.payload {
				t.Errorf("uri is %v", pay.URI)
			}
			if (pay.QR != nil) != (tc.payload != "") {
				t.Errorf("qr is %v", pay.QR)
			}
		})
	}
}

func TestTheURIAsksForWhatIsLeft(t *testing.T) {
	b := example()
	b.Pays, b.Address = bill.Token{Crypto: "BTC", Chain: "BTC"}, bitcoinAddress
	b.Payments[0].Token = b.Pays
	if got, want := checkout.Payload(b, now), "bitcoin:"+bitcoinAddress+"?amount=30.0137"; got != want {
		t.Errorf("payload is %q, want %q", got, want)
	}
}

func TestThereIsNoCodeWhenThereIsNothingToPay(t *testing.T) {
	for name, tc := range map[string]struct {
		payment bill.Payment
		at      time.Time
	}{
		"paid":                   {paid("50.0137", bill.Success, created), now},
		"overpaid":               {paid("60", bill.Success, created), now},
		"paid, not confirmed":    {paid("50.0137", bill.Pending, created), now},
		"expired":                {paid("50.0137", bill.Failed, created), expires},
		"underpaid, overdue":     {paid("20", bill.Success, created), expires},
		"confirming, after time": {paid("20", bill.Pending, created), expires},
	} {
		b := example()
		b.Payments = []bill.Payment{tc.payment}
		if payload := checkout.Payload(b, tc.at); payload != "" {
			t.Errorf("%s: payload is %q", name, payload)
		}
	}
}

func TestCodesCanBeReadBack(t *testing.T) {
	for _, payload := range []string{
		address,
		ethAddress,
		"bitcoin:" + bitcoinAddress + "?amount=0.279173646007816863",
		"bitcoin:" + strings.ToUpper(bitcoinAddress) + "?amount=1",
		strings.ToUpper(bitcoinAddress), // letters of the alphanumeric mode
		"1234567890",                    // digits only
		"EQ" + strings.Repeat("aB1_-", 9) + "x",
		strings.Repeat("x", 400),
		"é€😀",
	} {
		for format, read := range map[string]func(*testing.T, []byte) image.Image{"svg": drawSVG, "png": decodePNG} {
			w := httptest.NewRecorder()
			if err := checkout.WriteQR(w, payload, format); err != nil {
				t.Errorf("%s: %v", format, err)
				continue
			}
			img := read(t, w.Body.Bytes())
			if got := scan(t, img); got != payload {
				t.Errorf("%s: read as %q, want %q", format, got, payload)
			}
			expectQuietZone(t, format, img)
		}
	}
}

func TestCodesAreServedAsImages(t *testing.T) {
	for format, want := range map[string]string{"svg": "image/svg+xml", "png": "image/png"} {
		w := httptest.NewRecorder()
		if err := checkout.WriteQR(w, address, format); err != nil {
			t.Fatal(err)
		}
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("%s: Content-Type is %q", format, got)
		}
		if w.Body.Len() > 8<<10 {
			t.Errorf("%s: %d bytes", format, w.Body.Len())
		}
	}
	if err := checkout.WriteQR(httptest.NewRecorder(), strings.Repeat("x", 10_000), "svg"); err == nil {
		t.Error("a payload that no code can hold is drawn")
	}
}

// pixels is how large a module is drawn here and in the PNG.
const pixels = 10

// drawSVG draws a code as a browser would: a white ground and runs of dark modules.
func drawSVG(t *testing.T, data []byte) image.Image {
	t.Helper()
	var svg struct {
		XMLName xml.Name `xml:"http://www.w3.org/2000/svg svg"`
		ViewBox string   `xml:"viewBox,attr"`
		Paths   []struct {
			Fill string `xml:"fill,attr"`
			D    string `xml:"d,attr"`
		} `xml:"path"`
	}
	if err := xml.Unmarshal(data, &svg); err != nil {
		t.Fatal(err)
	}
	box := regexp.MustCompile(`^0 0 (\d+) (\d+)$`).FindStringSubmatch(svg.ViewBox)
	if box == nil || box[1] != box[2] || len(svg.Paths) != 2 {
		t.Fatalf("unexpected drawing: %.200s", data)
	}
	ground, code := svg.Paths[0], svg.Paths[1]
	if ground.Fill != "#fff" || ground.D != "M0 0h"+box[1]+"v"+box[1]+"H0z" {
		t.Fatalf("the ground is %+v", ground)
	}
	if code.Fill != "" {
		t.Fatalf("the code is drawn in %s", code.Fill)
	}

	size := number(box[1]) * pixels
	img := image.NewGray(image.Rect(0, 0, size, size))
	draw.Draw(img, img.Bounds(), image.White, image.Point{}, draw.Src)
	run := regexp.MustCompile(`M(\d+) (\d+)h(\d+)v1h-(\d+)z`)
	if rest := run.ReplaceAllString(code.D, ""); rest != "" {
		t.Fatalf("the path has something else: %.100s", rest)
	}
	for _, m := range run.FindAllStringSubmatch(code.D, -1) {
		x, y, width := number(m[1]), number(m[2]), number(m[3])
		if m[3] != m[4] {
			t.Fatalf("%s is no rectangle", m[0])
		}
		draw.Draw(img, image.Rect(x*pixels, y*pixels, (x+width)*pixels, (y+1)*pixels), image.Black, image.Point{}, draw.Src)
	}
	return img
}

func number(digits string) int {
	n, _ := strconv.Atoi(digits) // as matched
	return n
}

func decodePNG(t *testing.T, data []byte) image.Image {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// scan reads a code as a phone does.
func scan(t *testing.T, img image.Image) string {
	t.Helper()
	bitmap, err := gozxing.NewBinaryBitmapFromImage(img)
	if err != nil {
		t.Fatal(err)
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, nil)
	if err != nil {
		t.Fatal(err)
	}
	return result.GetText()
}

// expectQuietZone looks for four white modules on each side, and dark ones after them.
func expectQuietZone(t *testing.T, format string, img image.Image) {
	t.Helper()
	const quiet = 4 * pixels
	size := img.Bounds().Dx()
	dark := func(x, y int) bool { return color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y < 128 }
	for i := range size {
		for j := range quiet {
			if dark(i, j) || dark(j, i) || dark(i, size-1-j) || dark(size-1-j, i) {
				t.Fatalf("%s: the quiet zone is not white", format)
			}
		}
	}
	if !dark(quiet, quiet) || !dark(size-1-quiet, quiet) || !dark(quiet, size-1-quiet) {
		t.Errorf("%s: the corners of the code are not where the quiet zone ends", format)
	}
}
