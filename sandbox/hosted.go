package sandbox

import (
	"net/http"
	"net/url"

	"go.uber.org/zap"
)

// servePay is the hosted checkout page: the payer chooses a coin, then sees where
// to pay.
func (s *Sandbox) servePay(w http.ResponseWriter, r *http.Request) error {
	if err := allow(w, r, http.MethodGet, http.MethodHead, http.MethodPost); err != nil {
		return err
	}
	key := r.URL.Query().Get("key")
	if r.Method == http.MethodPost {
		if err := s.parseForm(w, r); err != nil {
			return err
		}
		key = r.Form.Get("key")
	}

	st := s.state
	st.mu.Lock()
	o := st.byKey[key]
	if o == nil {
		st.mu.Unlock()
		return s.complain(w, r, http.StatusNotFound, "no such order")
	}
	if r.Method == http.MethodPost {
		problem := s.chooseHosted(o, r.Form.Get("token_id"))
		st.mu.Unlock()
		if problem != "" {
			return s.complain(w, r, http.StatusConflict, problem)
		}
		http.Redirect(w, r, prefix(r)+"/pay?key="+url.QueryEscape(key), http.StatusSeeOther)
		return nil
	}
	v := s.view(o, base(r))
	expired := st.now().After(o.expires)
	st.mu.Unlock()

	type choice struct{ TokenID, Crypto, Name, Network, Logo, Amount string }
	var choices []choice
	if v.TokenID == "" {
		for _, c := range coins {
			for _, t := range c.tokens {
				choices = append(choices, choice{
					t.id, c.symbol, c.name, t.network, logo(prefix(r), c.symbol),
					amountDue(o.price, o.fiatRate, c.price, t.precision).String(),
				})
			}
		}
	}
	return s.render(w, r, http.StatusOK, "pay", map[string]any{
		"Title": "Checkout", "Order": v, "Key": key, "Choices": choices, "Expired": expired,
	})
}

// chooseHosted sets the token of a hosted order, once: payments may be on their
// way. It says what is wrong, if anything. The caller holds mu.
func (s *Sandbox) chooseHosted(o *order, tokenID string) string {
	t, ok := tokensByID[tokenID]
	switch {
	case !ok:
		return "this coin is not offered"
	case o.token != nil:
		return "a coin has been chosen already"
	case s.state.now().After(o.expires):
		return "the order has expired"
	}
	s.state.choose(s.AppID, o, t)
	s.logger.Info("chose coin",
		zap.String("order_id", o.id),
		zap.String("crypto", t.coin.symbol),
		zap.String("network", t.network))
	return ""
}
