package rest

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Addresses tells where requests come from. Behind proxies that are trusted it
// believes what they add to X-Forwarded-For; everybody else's word counts for
// nothing.
type Addresses struct{ trusted []netip.Prefix }

// NewAddresses trusts the proxies of these networks.
func NewAddresses(trusted []netip.Prefix) *Addresses { return &Addresses{trusted: trusted} }

// ClientIP gives the caller's address: the peer's, or, if that is a trusted
// proxy, the last hop of X-Forwarded-For that is none.
func (a *Addresses) ClientIP(r *http.Request) string {
	peer := host(r.RemoteAddr)
	if len(a.trusted) == 0 || !a.trusts(peer) {
		return peer
	}
	client := peer
	hops := r.Header["X-Forwarded-For"]
	for i := len(hops) - 1; i >= 0; i-- {
		rest := hops[i]
		for rest != "" {
			var hop string
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				rest, hop = rest[:cut], rest[cut+1:]
			} else {
				rest, hop = "", rest
			}
			ip, ok := parseHop(hop)
			if !ok {
				// Whatever stands left of nonsense is no better.
				return client
			}
			client = ip.String()
			if !a.trustsIP(ip) {
				return client
			}
		}
	}
	return client
}

// Trusted reports whether a request comes from a trusted proxy.
func (a *Addresses) Trusted(r *http.Request) bool {
	return len(a.trusted) > 0 && a.trusts(host(r.RemoteAddr))
}

func (a *Addresses) trusts(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && a.trustsIP(ip.Unmap())
}

func (a *Addresses) trustsIP(ip netip.Addr) bool {
	for _, p := range a.trusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// parseHop reads an address, with or without a port.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	ip, err := netip.ParseAddr(s)
	if err != nil {
		var ap netip.AddrPort
		if ap, err = netip.ParseAddrPort(s); err != nil {
			return netip.Addr{}, false
		}
		ip = ap.Addr()
	}
	return ip.Unmap().WithZone(""), true
}

func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return h
}
