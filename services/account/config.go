package account

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Config of the service.
type Config struct {
	// Replicas of the streams and buckets that the service makes.
	Replicas int
	// Argon2 sets the cost of password hashes.
	Argon2 Argon2
	// ParallelHashes bounds password hashes made at once, and with them their
	// memory. At most half of the processors hash: whatever is sent to /token,
	// the other half is there for messages.
	ParallelHashes int
	// WaitingHashes bounds the calls that wait to hash a password.
	WaitingHashes int
	// CredentialCache is how many checked passwords are remembered, as MACs
	// under a key of this process, so that the next check is cheap.
	CredentialCache int
	// UserCache is how many users are kept in memory for reads.
	UserCache int
	// BatchUsers bounds the users of one registration call.
	BatchUsers int
	// BlockedUsers bounds a user's block list.
	BlockedUsers int64
	// ContactRequests bounds the unanswered requests that a user has received;
	// the oldest give way.
	ContactRequests int64
	// SettleTimeout bounds how long a call waits for its event to be published.
	SettleTimeout time.Duration
}

// Argon2 are the parameters of argon2id.
type Argon2 struct {
	MemoryKiB uint32
	Passes    uint32
	Threads   uint8
}

// DefaultConfig gives the settings of a single node. The cost of passwords is
// what OWASP recommends for argon2id.
func DefaultConfig() Config {
	return Config{
		Replicas:        1,
		Argon2:          Argon2{MemoryKiB: 19 << 10, Passes: 2, Threads: 1},
		ParallelHashes:  max(1, runtime.GOMAXPROCS(0)/2),
		WaitingHashes:   256,
		CredentialCache: 16384,
		UserCache:       16384,
		BatchUsers:      60,
		BlockedUsers:    500,
		ContactRequests: 500,
		SettleTimeout:   2 * time.Second,
	}
}

// Validate reports every setting that does not fit.
func (c Config) Validate() error {
	var all error
	check := func(name string, value, low, high int64) {
		if value < low || value > high {
			all = errors.Join(all, fmt.Errorf("account %s: %d is not within %d to %d", name, value, low, high))
		}
	}
	check("replicas", int64(c.Replicas), 1, 5)
	check("argon2 memory in KiB", int64(c.Argon2.MemoryKiB), 8, 4<<20)
	check("argon2 passes", int64(c.Argon2.Passes), 1, 1000)
	check("argon2 threads", int64(c.Argon2.Threads), 1, 64)
	check("parallel hashes", int64(c.ParallelHashes), 1, 1024)
	check("waiting hashes", int64(c.WaitingHashes), 1, 100_000)
	check("credential cache", int64(c.CredentialCache), 1, 10_000_000)
	check("user cache", int64(c.UserCache), 1, 10_000_000)
	check("users in a batch", int64(c.BatchUsers), 1, 1000)
	check("blocked users", c.BlockedUsers, 0, maxBlockList)
	check("contact requests", c.ContactRequests, 1, 100_000)
	check("settle timeout in ms", c.SettleTimeout.Milliseconds(), 1, 60_000)
	return all
}
