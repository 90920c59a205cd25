// Package errs holds the one error type that crosses service borders. A
// service returns *Error; the gRPC layer carries it to the caller, where it is
// the same *Error again; the gateway turns it into the wire's error body.
package errs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Domain names this system in ErrorInfo details.
const Domain = "chappe"

// Reasons that more than one service or the gateway act on. They are the
// `error` field of the wire contract where one is documented.
const (
	ReasonIllegalArgument  = "illegal_argument"
	ReasonNotFound         = "service_resource_not_found"
	ReasonAppNotFound      = "organization_application_not_found"
	ReasonForbidden        = "forbidden_op"
	ReasonUnauthorized     = "unauthorized"
	ReasonBadToken         = "auth_bad_access_token"
	ReasonInvalidGrant     = "invalid_grant"
	ReasonDuplicate        = "duplicate_unique_property_exists"
	ReasonRequiredProperty = "required_property_not_found"
	ReasonRateLimit        = "reach_limit"
	ReasonQuota            = "resource_limited"
	ReasonTooLarge         = "Request Entity Too Large"
	ReasonJSON             = "json_parse"
	ReasonMediaType        = "web_application"
	ReasonUnsupported      = "unsupported_service_operation"
	ReasonEntityNotFound   = "entity_not_found"
	ReasonMessageSend      = "message_send_error"
	ReasonInvalidBody      = "invalid_request_body"
	ReasonExceedLimit      = "exceed_limit"
	ReasonMetadata         = "metadata_error"
	ReasonMetadataFull     = "FORBIDDEN"
	ReasonBadRequest       = "BAD_REQUEST"
	ReasonUnavailable      = "service_unavailable"
	ReasonDeadline         = "deadline_exceeded"
	ReasonInternal         = "internal_error"
)

// Numbers that the wire contract puts into `error_code`.
const (
	CodeToken          = 40001
	CodeFromEmpty      = 14001
	CodeToEmpty        = 14002
	CodeBodyEmpty      = 14005
	CodeMessageTooLong = 14007
)

// metaErrorCode is the metadata key of an error's number.
const metaErrorCode = "error_code"

// MessageInvalidRequest is the wire contract's text for a request that does
// not fit and for which it has no text of its own.
const MessageInvalidRequest = "this is an invalid request."

// Error is an error with what every border needs to know of it. Message is
// public; Cause never leaves the process.
type Error struct {
	Code       codes.Code
	Reason     string
	Message    string
	RetryAfter time.Duration
	// Metadata travels with the error; keys are fixed words, values short.
	Metadata map[string]string
	Cause    error
}

// Error gives the public text and, for logs, the cause.
func (e *Error) Error() string {
	if e.Cause != nil {
		return e.Message + ": " + e.Cause.Error()
	}
	return e.Message
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

// GRPCStatus lets grpc send the error whole, without its cause.
func (e *Error) GRPCStatus() *status.Status {
	st := status.New(e.Code, e.Message)
	info := &errdetails.ErrorInfo{Reason: e.Reason, Domain: Domain, Metadata: e.Metadata}
	var withDetails *status.Status
	var err error
	if e.RetryAfter > 0 {
		withDetails, err = st.WithDetails(info, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	} else {
		withDetails, err = st.WithDetails(info)
	}
	if err != nil {
		return st
	}
	return withDetails
}

// With returns e with one more metadata entry.
func (e *Error) With(key, value string) *Error {
	if e.Metadata == nil {
		e.Metadata = make(map[string]string, 1)
	}
	e.Metadata[key] = value
	return e
}

// WithCode returns e with a number for `error_code`.
func (e *Error) WithCode(n int) *Error { return e.With(metaErrorCode, strconv.Itoa(n)) }

// ErrorCode returns the number for `error_code`, 0 if there is none.
func (e *Error) ErrorCode() int {
	n, err := strconv.Atoi(e.Metadata[metaErrorCode])
	if err != nil {
		return 0
	}
	return n
}

// New builds an error of any code.
func New(code codes.Code, reason, message string) *Error {
	return &Error{Code: code, Reason: reason, Message: message}
}

// Invalid is a request that does not fit: HTTP 400, illegal_argument.
func Invalid(message string) *Error {
	return New(codes.InvalidArgument, ReasonIllegalArgument, message)
}

// Invalidf is Invalid with a format.
func Invalidf(format string, args ...any) *Error { return Invalid(fmt.Sprintf(format, args...)) }

// InvalidReason is a request that does not fit, with a reason of its own.
func InvalidReason(reason, message string) *Error {
	return New(codes.InvalidArgument, reason, message)
}

// TooLarge is a body or value above its size limit: HTTP 413.
func TooLarge() *Error {
	return New(codes.InvalidArgument, ReasonTooLarge, ReasonTooLarge)
}

// NotFound is a user, group, room or file that does not exist: HTTP 404.
func NotFound() *Error {
	return New(codes.NotFound, ReasonNotFound, "Service resource not found")
}

// AppNotFound is an unknown app. The gateway completes the text with the path.
func AppNotFound(org, app string) *Error {
	return New(codes.NotFound, ReasonAppNotFound, "Could not find application for "+org+"/"+app)
}

// Forbidden is an operation that its rules do not allow: HTTP 403.
func Forbidden(message string) *Error {
	return New(codes.PermissionDenied, ReasonForbidden, message)
}

// Unauthenticated is a missing, wrong or expired proof of identity: HTTP 401.
// Client SDKs know by its number that they need a new token.
func Unauthenticated(reason, message string) *Error {
	return New(codes.Unauthenticated, reason, message).WithCode(CodeToken)
}

// RegistrationClosed is a registration without an app token while the app
// takes no other: HTTP 401. It is about no token, so it has no number.
func RegistrationClosed() *Error {
	return New(codes.Unauthenticated, ReasonUnauthorized, "registration is not open, please contact the app admin")
}

// MessageRefused is a message that cannot be sent: HTTP 400,
// message_send_error.
func MessageRefused(message string) *Error { return InvalidReason(ReasonMessageSend, message) }

// InvalidBody is the body of a call about messages that is not JSON or has a
// field of a wrong type: HTTP 400, invalid_request_body.
func InvalidBody() *Error {
	return InvalidReason(ReasonInvalidBody, "Request body is invalid. Please check body is correct.")
}

// SendRateLimited is a send above the rate of messages: HTTP 403.
func SendRateLimited(retryAfter time.Duration) *Error {
	e := New(codes.ResourceExhausted, ReasonMessageSend, "message send reach limit")
	e.RetryAfter = retryAfter
	return e
}

// UserNotFound is a user who does not exist, on calls that answer with
// entity_not_found: HTTP 404. The text is the wire contract's.
func UserNotFound() *Error { return New(codes.NotFound, ReasonEntityNotFound, "User null not found") }

// UserRequired is a user who does not exist, on calls that answer with
// required_property_not_found: HTTP 400.
func UserRequired() *Error {
	return InvalidReason(ReasonRequiredProperty, "Entity user requires a property named username")
}

// LimitExceeded is a plan's bound on what one user may have: HTTP 403,
// exceed_limit.
func LimitExceeded(message string) *Error {
	return New(codes.PermissionDenied, ReasonExceedLimit, message)
}

// RateLimited is a call above its rate: HTTP 429.
func RateLimited(retryAfter time.Duration) *Error {
	e := New(codes.ResourceExhausted, ReasonRateLimit, "This request has reached api limit")
	e.RetryAfter = retryAfter
	return e
}

// QuotaExceeded is a plan's quota reached: HTTP 429 resource_limited.
func QuotaExceeded(quota string) *Error {
	return New(codes.ResourceExhausted, ReasonQuota,
		"You have exceeded the limit of the community edition,Please upgrade to the enterprise edition").With("quota", quota)
}

// Unavailable is a dependency that is down: HTTP 503. Nothing was done.
func Unavailable(what string, cause error) *Error {
	e := New(codes.Unavailable, ReasonUnavailable, what+" is unavailable")
	e.Cause = cause
	return e
}

// Internal is a fault of ours: fixed public text, the cause for the log.
func Internal(cause error) *Error {
	e := New(codes.Internal, ReasonInternal, "internal error")
	e.Cause = cause
	return e
}

// Is reports whether err is, or wraps, an *Error with the reason.
func Is(err error, reason string) bool {
	var e *Error
	return errors.As(err, &e) && e.Reason == reason
}

// IsAway reports whether err says that somebody who was asked did not answer.
func IsAway(err error) bool { return Is(err, ReasonUnavailable) || Is(err, ReasonDeadline) }

// From makes an *Error of any error: an *Error stays itself, a gRPC status of
// ours is rebuilt, a run-out context is Unavailable, all else is Internal.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		e := New(codes.DeadlineExceeded, ReasonDeadline, "the operation took too long")
		e.Cause = err
		return e
	}
	if errors.Is(err, context.Canceled) {
		e := New(codes.Canceled, ReasonUnavailable, "the operation was cancelled")
		e.Cause = err
		return e
	}
	st, ok := status.FromError(err)
	if !ok {
		return Internal(err)
	}
	return fromStatus(st)
}

func fromStatus(st *status.Status) *Error {
	e := &Error{Code: st.Code(), Message: st.Message()}
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == Domain {
				e.Reason = d.GetReason()
				e.Metadata = d.GetMetadata()
			}
		case *errdetails.RetryInfo:
			e.RetryAfter = d.GetRetryDelay().AsDuration()
		}
	}
	if e.Reason != "" {
		return e
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.OutOfRange:
		e.Reason = ReasonIllegalArgument
	case codes.Unavailable:
		e.Reason, e.Message = ReasonUnavailable, "service is unavailable"
		e.Cause = st.Err()
	case codes.DeadlineExceeded:
		e.Reason, e.Message = ReasonDeadline, "the operation took too long"
		e.Cause = st.Err()
	case codes.Canceled:
		e.Reason = ReasonUnavailable
	case codes.Unimplemented:
		e.Reason = ReasonUnsupported
	default:
		return Internal(st.Err())
	}
	return e
}
