// Package e2e holds the black-box tests of whole servers: over REST, over
// client connections and over gRPC, as their users reach them.
package e2e

import (
	"testing"

	"github.com/chappe-im/chappe/pkg/testkit"
	"github.com/chappe-im/chappe/test/harness"
)

func TestMain(m *testing.M) {
	harness.RunChild()
	testkit.Main(m)
}
