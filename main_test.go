package ccpayment

import (
	"flag"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

// integrationRan counts the tests that had a running Caddy. The helper they use
// skips a test whose prerequisites are missing, and a skipped test proves nothing.
var integrationRan atomic.Int32

func TestMain(m *testing.M) {
	code := m.Run()
	everything := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.bench").Value.String() == ""
	if code == 0 && everything && integrationRan.Load() < 20 {
		fmt.Fprintf(os.Stderr, "only %d integration tests ran; run without -short and -trimpath\n", integrationRan.Load())
		code = 1
	}
	os.Exit(code)
}
