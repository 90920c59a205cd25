package run

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// Names of the targets: what a process can run.
const (
	TargetAll       = "all"
	TargetGateway   = "gateway"
	TargetLimiter   = "limiter"
	TargetAccount   = "account"
	TargetPresence  = "presence"
	TargetMessaging = "messaging"
)

// Durability settings: what an acknowledged send survives.
const (
	DurabilityProcess = "process"
	DurabilityPower   = "power"
)

// minLogSize is the least size of a partition's log in bytes: several blocks of
// JetStream's.
const minLogSize = 64 << 20

// Config is everything a process can be told. Each field is a flag, an
// environment variable (CHAPPE_ and the flag's name in capitals) and a key of
// the configuration file (the flag's name); a flag outranks the environment,
// which outranks the file.
type Config struct {
	Targets    []string
	HTTP       string
	GRPC       string
	Ops        string
	Data       string
	Etcd       []string
	NATS       string
	Database   string
	Durability string
	LogLevel   string
	LogFormat  string
	AccessLog  bool
	Demo       bool

	AcceptInstallation bool
	DiskReserve        int64

	TrustedProxies []string
	BodyLimit      int64
	PageMemory     int64
	OpenAPI        bool
	DrainTimeout   time.Duration

	Partitions  int
	LogAge      time.Duration
	LogSize     int64
	LogReplicas int
	PushEvents  bool
	PushZone    string
	NATSListen  string

	// GRPCSecretFile or the GRPCTLS… files let processes and operators in at
	// gRPC, OpsSecretFile at metrics and profiles; SealKeyFile seals keys in
	// etcd.
	GRPCSecretFile string
	GRPCTLSCert    string
	GRPCTLSKey     string
	GRPCTLSCA      string
	GRPCTLSName    string
	OpsSecretFile  string
	SealKeyFile    string

	Advertise string
	// Peers are the addresses of services by their names, of those that are not
	// where peerAddr looks for them.
	Peers map[string]string
}

// Flags defines the flags of a configuration with their defaults.
func (c *Config) Flags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&c.Targets, "target", []string{TargetAll}, "what to run: all, or some of "+strings.Join(targets(), ", "))
	fs.StringVar(&c.HTTP, "http", "127.0.0.1:8080", "address of REST and client connections")
	fs.StringVar(&c.GRPC, "grpc", "127.0.0.1:9090", "address of gRPC")
	fs.StringVar(&c.Ops, "ops", "127.0.0.1:9091", "private address of metrics, health, profiles and the description of the REST API; empty for none")
	fs.StringVar(&c.Data, "data", "./data", "directory of everything that is stored locally")
	fs.StringSliceVar(&c.Etcd, "etcd", nil, "etcd endpoints; empty runs an embedded etcd")
	fs.StringVar(&c.NATS, "nats", "", "URLs of NATS servers, comma-separated; empty runs an embedded one")
	fs.StringVar(&c.Database, "database", "", "postgres://… or sqlite:DIR; empty is SQLite below the data directory")
	fs.StringVar(&c.Durability, "durability", DurabilityProcess, "what an acknowledged send survives: process (kill -9) or power (an fsync for each)")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&c.LogFormat, "log-format", "json", "json or text")
	fs.BoolVar(&c.AccessLog, "access-log", true, "log every REST call")
	fs.BoolVar(&c.Demo, "demo", false, "create the app demo/chat, where anybody may register, and tell how to use it")
	fs.Int64Var(&c.DiskReserve, "disk-reserve", 256<<20, "bytes that stay free on the disk of the embedded servers and SQLite files: below, sends are refused with 503. 0 for none")
	fs.BoolVar(&c.AcceptInstallation, "accept-installation", false, "go on with an etcd, a NATS and databases of several installations or backups, and make them one; meant for one start")
	fs.StringSliceVar(&c.TrustedProxies, "trusted-proxies", nil, "networks (CIDR) whose X-Forwarded-For is believed")
	fs.Int64Var(&c.BodyLimit, "body-limit", 1<<20, "largest JSON body in bytes")
	fs.Int64Var(&c.PageMemory, "page-memory", 256<<20, "memory in bytes for what waits for connected devices; beyond it, it is read from the archive when they ask")
	fs.BoolVar(&c.OpenAPI, "openapi", false, "serve the description of the REST API at /openapi.json on the public address too, not only on the private one")
	fs.DurationVar(&c.DrainTimeout, "drain-timeout", 10*time.Second, "longest time that stopping may take")
	fs.IntVar(&c.Partitions, "partitions", 1, "partitions of the message log; fixed at the first start. One is fastest on one node; a cluster takes a few for each messaging instance")
	fs.DurationVar(&c.LogAge, "log-age", 24*time.Hour, "how long the message log is kept for redo and subscribers")
	fs.Int64Var(&c.LogSize, "log-size", 10<<30, "bytes that the message log may take, over all partitions; of what is archived the oldest goes first, and sends are refused rather than drop what is not. 0 for no bound")
	fs.IntVar(&c.LogReplicas, "log-replicas", 1, "replicas of the message log in a NATS cluster")
	fs.StringVar(&c.Advertise, "advertise", "", "host:port at which other processes reach this one's gRPC; empty finds it out")
	fs.BoolVar(&c.PushEvents, "push-events", false, "publish an event for each message to a user who is not connected, for push providers")
	fs.StringVar(&c.PushZone, "push-zone", "UTC", "time zone of users' do-not-disturb hours, such as Europe/Paris")
	fs.StringVar(&c.NATSListen, "nats-listen", "", "address on which the embedded NATS serves other processes, such as push workers, who need the token in the file nats-token of the data directory; empty for none")
	fs.StringVar(&c.GRPCSecretFile, "grpc-secret-file", "", "file with the secret of gRPC, the same for all processes; empty is grpc-secret in the data directory, made at the first start")
	fs.StringVar(&c.GRPCTLSCert, "grpc-tls-cert", "", "certificate of this process (PEM); with it, gRPC between processes and for operators is mutual TLS and has no secret")
	fs.StringVar(&c.GRPCTLSKey, "grpc-tls-key", "", "private key of that certificate (PEM)")
	fs.StringVar(&c.GRPCTLSCA, "grpc-tls-ca", "", "authority that has signed the certificates of all processes and operators (PEM)")
	fs.StringVar(&c.GRPCTLSName, "grpc-tls-name", "", "name that the certificates of the other processes are made out to; empty is the host that is called")
	fs.StringVar(&c.OpsSecretFile, "ops-secret-file", "", "file with a secret that metrics and profiles ask for as a bearer token; empty asks nobody and is refused beyond loopback")
	fs.StringVar(&c.SealKeyFile, "seal-key-file", "", "file with the key (32 bytes in base64) that seals the apps' signing keys in etcd; empty is seal-key in the data directory, made at the first start")
	fs.StringToStringVar(&c.Peers, "peer", nil, "where services are that do not run in this process: name=address, comma-separated or repeated; one that is not named is at dns:///chappe-NAME:9090")
}

// Fill sets the flags that the command line left alone: from the environment,
// then from the file, if one is named. Unknown keys of the file are errors.
func Fill(fs *pflag.FlagSet, file string, getenv func(string) string) error {
	given := map[string]string{}
	if file != "" {
		raw, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			return fmt.Errorf("configuration file: %w", err)
		}
		var doc map[string]any
		if err := yaml.Unmarshal(raw, &doc); err != nil {
			return fmt.Errorf("configuration file %s: %w", file, err)
		}
		var unknown []string
		for k, v := range doc {
			if fs.Lookup(k) == nil || k == "config" || k == "help" {
				unknown = append(unknown, k)
				continue
			}
			if list, ok := v.([]any); ok {
				parts := make([]string, len(list))
				for i, x := range list {
					parts[i] = fmt.Sprint(x)
				}
				v = strings.Join(parts, ",")
			}
			if pairs, ok := v.(map[string]any); ok {
				parts := make([]string, 0, len(pairs))
				for name, x := range pairs {
					parts = append(parts, name+"="+fmt.Sprint(x))
				}
				slices.Sort(parts)
				v = strings.Join(parts, ",")
			}
			given[k] = fmt.Sprint(v)
		}
		if len(unknown) > 0 {
			slices.Sort(unknown)
			return fmt.Errorf("configuration file %s: unknown keys: %s", file, strings.Join(unknown, ", "))
		}
	}
	var all error
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			return
		}
		source := "the configuration file"
		value, ok := given[f.Name]
		if name := EnvName(f.Name); getenv(name) != "" {
			source, value, ok = name, getenv(name), true
		}
		if !ok {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", source, err))
		}
	})
	return all
}

// EnvName gives the environment variable of a flag.
func EnvName(flag string) string {
	return "CHAPPE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Runs reports whether the process runs a target.
func (c *Config) Runs(target string) bool {
	return slices.Contains(c.Targets, TargetAll) || slices.Contains(c.Targets, target)
}

// peerAddr returns where a service is that does not run in this process.
func (c *Config) peerAddr(target string) string {
	if addr, ok := c.Peers[target]; ok {
		return addr
	}
	return "dns:///chappe-" + target + ":9090"
}

// databaseURL returns where the SQL schemas are.
func (c *Config) databaseURL() string {
	if c.Database != "" {
		return c.Database
	}
	return "sqlite:" + filepath.Join(c.Data, "sql")
}

// Validate reports every setting that does not fit.
func (c *Config) Validate() error {
	var all error
	targets := targets()
	bad := func(format string, args ...any) { all = errors.Join(all, fmt.Errorf(format, args...)) }
	if len(c.Targets) == 0 {
		bad("target: name at least one of all, %s", strings.Join(targets, ", "))
	}
	for _, t := range c.Targets {
		if t != TargetAll && !slices.Contains(targets, t) {
			bad("target: %q is none of all, %s", t, strings.Join(targets, ", "))
		}
	}
	for name, addr := range c.Peers {
		switch {
		case name == TargetLimiter:
			bad("peer: limiters find each other in etcd; see --advertise")
		case name == TargetGateway || !slices.Contains(targets, name):
			bad("peer: %q is no service that others call", name)
		case addr == "":
			bad("peer: %s has no address", name)
		}
	}
	for name, addr := range map[string]string{"http": c.HTTP, "grpc": c.GRPC, "ops": c.Ops} {
		if addr == "" && name == "ops" {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			bad("%s: %w", name, err)
		}
	}
	if c.NATSListen != "" {
		if c.NATS != "" {
			bad("nats-listen: only the embedded NATS is told where to listen")
		}
		if _, _, err := net.SplitHostPort(c.NATSListen); err != nil {
			bad("nats-listen: %w", err)
		}
	}
	if _, err := time.LoadLocation(c.PushZone); err != nil {
		bad("push-zone: %w", err)
	}
	if c.Durability != DurabilityProcess && c.Durability != DurabilityPower {
		bad("durability: %q is neither process nor power", c.Durability)
	}
	if c.Durability == DurabilityPower && c.NATS != "" {
		bad("durability: power is a setting of the NATS servers themselves (sync_interval: always); leave it out here")
	}
	for _, p := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(p); err != nil {
			bad("trusted-proxies: %w", err)
		}
	}
	if c.PageMemory != 0 && c.PageMemory < 4<<20 {
		bad("page-memory: %d bytes do not hold what a few devices need; at least 4194304", c.PageMemory)
	}
	if c.BodyLimit < 64<<10 {
		bad("body-limit: %d bytes cannot hold a full call; at least 65536", c.BodyLimit)
	}
	if c.DiskReserve < 0 {
		bad("disk-reserve: %d bytes is negative", c.DiskReserve)
	}
	if c.LogSize < 0 || (c.LogSize > 0 && c.LogSize < int64(max(1, c.Partitions))*minLogSize) {
		bad("log-size: %d bytes is too small for %d partitions: at least %d, or 0 for no bound", c.LogSize, c.Partitions, int64(max(1, c.Partitions))*minLogSize)
	}
	if c.DrainTimeout <= 0 {
		bad("drain-timeout: %s is not positive", c.DrainTimeout)
	}
	c.validateAccess(bad)
	if len(c.Etcd) == 0 && !slices.Contains(c.Targets, TargetAll) {
		bad("etcd: a process that runs only some targets needs the addresses of etcd")
	}
	for i, endpoint := range c.Etcd {
		if strings.Contains(endpoint, "@") {
			bad("etcd: endpoint %d: names and passwords in the address are not supported", i+1)
		}
	}
	for i, server := range strings.Split(c.NATS, ",") {
		// The text of the error would show what stands in the URL, such as a
		// password.
		if !strings.Contains(server, "://") {
			server = "nats://" + strings.TrimSpace(server)
		}
		if _, err := url.Parse(strings.TrimSpace(server)); err != nil {
			bad("nats: server %d is not a URL", i+1)
		}
	}
	if c.NATS == "" && !slices.Contains(c.Targets, TargetAll) {
		bad("nats: a process that runs only some targets needs the addresses of NATS")
	}
	if c.Database != "" && !strings.HasPrefix(c.Database, "sqlite:") {
		if u, err := url.Parse(c.Database); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			bad("database: neither postgres:// nor sqlite:")
		}
	}
	return all
}
