package rest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/chappe-im/chappe/pkg/errs"
	"github.com/chappe-im/chappe/services/gateway/restjson"
)

// Keys of an error's metadata that become headers of the answer: units, and
// milliseconds for the reset.
const (
	metaLimit     = "limit"
	metaRemaining = "remaining"
	metaReset     = "reset_ms"
)

// statusClientGone is only ever seen in logs and metrics.
const statusClientGone = 499

// Reasons that only the gateway gives.
const reasonTimeout = "request_timeout"

func unsupportedMedia() *errs.Error {
	return errs.InvalidReason(errs.ReasonMediaType, "Unsupported Media Type")
}

func requestTimeout() *errs.Error {
	return errs.InvalidReason(reasonTimeout, "the request took too long to arrive")
}

func methodNotAllowed() *errs.Error {
	return errs.InvalidReason(errs.ReasonUnsupported, "Service operation not supported")
}

// statusOf gives the HTTP status of an error.
func statusOf(e *errs.Error) int {
	switch e.Reason {
	case errs.ReasonTooLarge:
		return http.StatusRequestEntityTooLarge
	case errs.ReasonForbidden:
		return http.StatusForbidden
	case errs.ReasonDuplicate, errs.ReasonRequiredProperty, errs.ReasonJSON, errs.ReasonIllegalArgument:
		return http.StatusBadRequest
	case errs.ReasonMessageSend:
		if e.Code == codes.ResourceExhausted {
			return http.StatusForbidden
		}
	case errs.ReasonRateLimit, errs.ReasonQuota:
		return http.StatusTooManyRequests
	case errs.ReasonMediaType:
		if e.Code == codes.InvalidArgument {
			return http.StatusUnsupportedMediaType
		}
	case errs.ReasonUnsupported:
		if e.Code == codes.InvalidArgument {
			return http.StatusMethodNotAllowed
		}
	case reasonTimeout:
		return http.StatusRequestTimeout
	}
	switch e.Code {
	case codes.InvalidArgument, codes.OutOfRange, codes.FailedPrecondition, codes.AlreadyExists:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable, codes.Canceled, codes.Aborted:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// exceptionOf names a kind of error the way callers of this protocol know it;
// some of them log it.
func exceptionOf(e *errs.Error, status int) string {
	switch e.Reason {
	case errs.ReasonDuplicate:
		return "org.apache.usergrid.persistence.exceptions.DuplicateUniquePropertyExistsException"
	case errs.ReasonRequiredProperty:
		return "org.apache.usergrid.persistence.exceptions.RequiredPropertyNotFoundException"
	case errs.ReasonMessageSend:
		return "MessageSendException"
	case errs.ReasonAppNotFound:
		return "org.apache.usergrid.rest.exceptions.OrganizationApplicationNotFoundException"
	case errs.ReasonInvalidGrant:
		return "org.apache.usergrid.rest.exceptions.AuthErrorInfo"
	case errs.ReasonJSON:
		return "com.fasterxml.jackson.core.JsonParseException"
	}
	switch status {
	case http.StatusBadRequest:
		return "java.lang.IllegalArgumentException"
	case http.StatusUnauthorized:
		return "org.apache.usergrid.rest.exceptions.SecurityException"
	case http.StatusForbidden:
		return "EasemobForbiddenOpException"
	case http.StatusNotFound:
		return "org.apache.usergrid.services.exceptions.ServiceResourceNotFoundException"
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return "org.apache.usergrid.services.exceptions.UnsupportedServiceOperationException"
	case http.StatusTooManyRequests:
		return "com.easemob.weichat.exceptions.ReachLimitException"
	default:
		return "javax.ws.rs.WebApplicationException"
	}
}

// fail answers with an error. It does nothing if an answer has begun.
func (c *call) fail(e *errs.Error) {
	if c.w.status != 0 {
		return
	}
	status := statusOf(e)
	if e.Code == codes.Canceled && c.req.Context().Err() != nil {
		status = statusClientGone
	}
	h := c.w.Header()
	if e.Code == codes.ResourceExhausted {
		limitHeaders(h, e)
	}
	if status == http.StatusMethodNotAllowed {
		h["Allow"] = []string{c.h.allowed(c.req.URL.Path)}
	}
	description := e.Message
	if e.Reason == errs.ReasonAppNotFound && !strings.Contains(description, " from URI: ") {
		description += " from URI: " + strings.TrimPrefix(c.req.URL.Path, "/")
	}

	exception := exceptionOf(e, status)
	if e.Reason == errs.ReasonNotFound && c.message != nil {
		// What a service misses under this word is a user. Client SDKs tell it
		// from other failures by this name, and only by this.
		exception = "UserNotFoundException"
	}
	withResult := c.endpoint != nil && c.endpoint.route.ErrorResult
	c.env.Buf = appendError(c.env.Buf[:0], e, exception, description, withResult, c.began, time.Now())

	h["Content-Type"] = jsonTypes
	c.w.WriteHeader(status)
	_, _ = c.w.Write(c.env.Buf) // a caller who is gone needs no answer
}

// appendError writes the answer of a call that failed.
func appendError(dst []byte, e *errs.Error, exception, description string, withResult bool, began, now time.Time) []byte {
	dst = append(dst, `{"error":`...)
	dst = restjson.AppendString(dst, orElse(e.Reason, errs.ReasonInternal))
	dst = append(dst, `,"exception":`...)
	dst = restjson.AppendString(dst, exception)
	dst = append(dst, `,"timestamp":`...)
	dst = strconv.AppendInt(dst, now.UnixMilli(), 10)
	dst = append(dst, `,"duration":`...)
	dst = strconv.AppendInt(dst, now.Sub(began).Milliseconds(), 10)
	dst = append(dst, `,"error_description":`...)
	dst = restjson.AppendString(dst, description)
	if n := e.ErrorCode(); n != 0 {
		dst = append(dst, `,"error_code":`...)
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	if withResult {
		dst = append(dst, `,"result":`...)
		dst = restjson.AppendString(dst, description)
	}
	return append(dst, '}')
}

// Refusal returns the answer to a request that the HTTP server refuses before
// there is a call.
func Refusal(status int, now time.Time) []byte {
	e := errs.Invalid(errs.MessageInvalidRequest)
	if status == http.StatusNotImplemented {
		e = methodNotAllowed()
	}
	return appendError(nil, e, exceptionOf(e, http.StatusBadRequest), e.Message, false, now, now)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// limitHeaders tells a limited caller when to come back, in whole seconds.
func limitHeaders(h http.Header, e *errs.Error) {
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(ceilSeconds(e.RetryAfter), 10))
	}
	if v := e.Metadata[metaLimit]; v != "" {
		h.Set("X-RateLimit-Limit", v)
	}
	if v := e.Metadata[metaRemaining]; v != "" {
		h.Set("X-RateLimit-Remaining", v)
	}
	if ms, err := strconv.ParseInt(e.Metadata[metaReset], 10, 64); err == nil {
		h.Set("X-RateLimit-Reset", strconv.FormatInt(ceilSeconds(time.Duration(ms)*time.Millisecond), 10))
	}
}

func ceilSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
