package embed

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/chappe-im/chappe/pkg/private"
)

// lockDir makes the directory and claims it for one server, until unlock or the
// end of the process, however that comes. Two servers on the same files would
// wait for each other without a word or destroy what the other writes.
func lockDir(dir string) (unlock func(), err error) {
	var foreign *private.ForeignError // its owner's matter; the process says so at its start
	if err := private.Dir(dir); err != nil && !errors.As(err, &foreign) {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "in-use"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // below the data directory
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	held, err := tryLock(f)
	if err == nil && held {
		return func() { _ = f.Close() }, nil
	}
	_ = f.Close()
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", dir, err)
	}
	return nil, fmt.Errorf("%s is in use by another process", dir)
}
