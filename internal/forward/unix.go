package forward

import (
	"context"
	"net"
	"time"
)

// unixDialer returns a dialer that always connects to one socket.
func unixDialer(socket string) func(context.Context, string, string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", socket)
	}
}
