package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	wireguard "github.com/tailscale/wireguard-go/device"
	"golang.org/x/sys/unix"
)

// deviceLogger sends wireguard-go's words, its errors too, to log at debug: most of its
// errors are the network's weather. What a person must know is logged where we notice it.
func deviceLogger(log *slog.Logger) *wireguard.Logger {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return &wireguard.Logger{Verbosef: wireguard.DiscardLogf, Errorf: wireguard.DiscardLogf}
	}
	say := func(format string, args ...any) {
		for i, a := range args {
			if err, ok := a.(error); ok {
				args[i] = redacted(err)
			}
		}
		log.Debug(fmt.Sprintf(format, args...))
	}
	return &wireguard.Logger{Verbosef: say, Errorf: say}
}

// redacted hides the text of the one error of wireguard-go that repeats its input, which
// may be a key: that a line of configuration has no equals sign (EPROTO).
func redacted(err error) error {
	var ipc *wireguard.IPCError
	if errors.As(err, &ipc) && ipc.ErrorCode() == -int64(unix.EPROTO) {
		return errors.New("a line of the configuration has no value")
	}
	return err
}
