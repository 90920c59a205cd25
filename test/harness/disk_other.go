//go:build !linux

package harness

import "errors"

func mountTmpfs(string, string) error { return errors.New("only tried on Linux") }

func unmount(string) error { return nil }
