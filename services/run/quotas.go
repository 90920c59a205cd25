package run

import (
	"slices"

	"github.com/chappe-im/chappe/pkg/grpcx"
	"github.com/chappe-im/chappe/pkg/quota"
	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// registrar is where services register: everywhere that the process is called,
// and among those that count what apps use.
type registrar struct {
	grpcx.Registrars
	*quota.Server
}

// quotaClients returns the way to each service's counts.
func (s *Server) quotaClients() (map[string]quotav1.QuotaServiceClient, error) {
	out := make(map[string]quotav1.QuotaServiceClient)
	for _, target := range targets() {
		if slices.Contains([]string{TargetLimiter, TargetGateway}, target) {
			continue // what they count are calls and connections
		}
		conn, err := s.Conn(target)
		if err != nil {
			return nil, err
		}
		out[target] = quotav1.NewQuotaServiceClient(conn)
	}
	return out, nil
}
