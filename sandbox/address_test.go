package sandbox

import (
	"encoding/hex"
	"testing"
)

func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		form       func([20]byte) string
		hash, want string
	}{
		// The contract of USDT on TRON.
		{tronAddress, "a614f803b6fd780986a42c78ec9c7f77e6ded13c", "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"},
		// EIP-55.
		{evmAddress, "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
		{evmAddress, "fb6916095ca1df60bb79ce92ce3ea74c37c5d359", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"},
		// BIP-173.
		{bitcoinAddress, "751e76e8199196d454941c45d1b3a323f1433bd6", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"},
		// XRP Ledger: ACCOUNT_ZERO, ACCOUNT_ONE, and the genesis account.
		{rippleAddress, "0000000000000000000000000000000000000000", "rrrrrrrrrrrrrrrrrrrrrhoLvTp"},
		{rippleAddress, "0000000000000000000000000000000000000001", "rrrrrrrrrrrrrrrrrrrrBZbvji"},
		{rippleAddress, "b5f762798a53d543a014caf8b297cff8f2f937e8", "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"},
	} {
		b, err := hex.DecodeString(tc.hash)
		if err != nil {
			t.Fatal(err)
		}
		if got := tc.form([20]byte(b)); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestAddressesAreNew(t *testing.T) {
	for id, token := range tokensByID {
		a, am := token.address(testAppID, 1)
		b, bm := token.address(testAppID, 2)
		if a == b && am == bm {
			t.Errorf("%s on %s: two orders share %s", token.coin.symbol, token.network, a)
		}
		if (am != "") != token.memo {
			t.Errorf("%s: memo %q", id, am)
		}
	}
}
