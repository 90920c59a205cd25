package quota

import (
	"context"
	"sync"

	"google.golang.org/grpc"

	quotav1 "github.com/chappe-im/chappe/proto/gen/chappe/quota/v1"
)

// Server answers for all services of a process that count something: gRPC takes
// a service of one name once.
type Server struct {
	quotav1.UnimplementedQuotaServiceServer

	mu       sync.RWMutex
	counters map[string]quotav1.QuotaServiceServer
}

// Registrar is a gRPC registrar that has a Server of its process.
type Registrar interface {
	grpc.ServiceRegistrar
	RegisterQuotas(service string, s quotav1.QuotaServiceServer)
}

// Register makes a service's quotas callable under its name. A registrar that
// is no Registrar gets a Server of its own.
func Register(r grpc.ServiceRegistrar, service string, s quotav1.QuotaServiceServer) {
	if p, ok := r.(Registrar); ok {
		p.RegisterQuotas(service, s)
		return
	}
	own := &Server{}
	own.RegisterQuotas(service, s)
	quotav1.RegisterQuotaServiceServer(r, own)
}

// RegisterQuotas adds a service.
func (s *Server) RegisterQuotas(service string, counter quotav1.QuotaServiceServer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counters == nil {
		s.counters = make(map[string]quotav1.QuotaServiceServer)
	}
	s.counters[service] = counter
}

// GetQuotaUsage asks the service that the request names.
func (s *Server) GetQuotaUsage(ctx context.Context, req *quotav1.GetQuotaUsageRequest) (*quotav1.GetQuotaUsageResponse, error) {
	s.mu.RLock()
	counter, ok := s.counters[req.GetService()]
	s.mu.RUnlock()
	if !ok {
		return &quotav1.GetQuotaUsageResponse{}, nil
	}
	return counter.GetQuotaUsage(ctx, req)
}
