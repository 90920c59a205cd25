package msyncclient

import (
	"encoding/json"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"

	msyncv1 "github.com/chappe-im/chappe/proto/gen/chappe/msync/v1"
)

// sdkVersion is the version of the official SDK that logins claim to be.
const sdkVersion = "4.21.1"

// Login is what a device logs in with.
type Login struct {
	// AppKey is "org#app".
	AppKey, User, Token string
	// Resource names the device, SessionID tells two of its logins apart.
	Resource, SessionID string
}

// Frame returns the login as the frame that the server expects first.
func (l Login) Frame() ([]byte, error) {
	authToken, err := json.Marshal(map[string]string{"token": "$t$" + l.Token})
	if err != nil {
		return nil, err
	}
	payload, err := proto.Marshal(&msyncv1.Provision{
		OsType:        msyncv1.Provision_OS_OTHER.Enum(),
		Version:       proto.String(sdkVersion),
		CompressType:  []msyncv1.Provision_CompressType{msyncv1.Provision_COMPRESS_NONE},
		EncryptType:   []msyncv1.EncryptType{msyncv1.EncryptType_ENCRYPT_NONE},
		DeviceUuid:    proto.String(l.Resource),
		DeviceName:    proto.String("msyncclient"),
		Resource:      proto.String(l.Resource),
		ActionVersion: proto.String("v5.2"),
		AuthToken:     proto.String(string(authToken)),
		SessionId:     proto.String(l.SessionID),
	})
	if err != nil {
		return nil, err
	}
	return Frame(msyncv1.MSync_PROVISION, payload, &msyncv1.MSync{
		Guid: &msyncv1.JID{
			AppKey: proto.String(l.AppKey), Name: proto.String(l.User), Domain: proto.String(DomainUser),
			ClientResource: proto.String(l.Resource),
		},
		Auth: proto.String("$t$" + l.Token),
	})
}

// Frame returns a frame of the protocol; base may hold fields beyond command
// and payload and may be nil.
func Frame(command msyncv1.MSync_Command, payload []byte, base *msyncv1.MSync) ([]byte, error) {
	if base == nil {
		base = &msyncv1.MSync{}
	}
	base.Version = msyncv1.MSync_MSYNC_V1.Enum()
	base.Command = command.Enum()
	base.Payload = payload
	base.EncryptType = []msyncv1.EncryptType{msyncv1.EncryptType_ENCRYPT_NONE}
	b, err := proto.Marshal(base)
	if err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	return b, nil
}

// CheckLogin returns a *LoginError when the answer to a login refuses it.
func CheckLogin(answer *msyncv1.Provision) error {
	if s := answer.GetStatus(); s.GetErrorCode() != msyncv1.Status_OK {
		return &LoginError{Code: s.GetErrorCode(), Reason: s.GetReason()}
	}
	return nil
}

// LoginError is a refused login.
type LoginError struct {
	Code   msyncv1.Status_ErrorCode
	Reason string
}

// Error returns code and reason.
func (e *LoginError) Error() string {
	return "login refused: " + strconv.Itoa(int(e.Code)) + " " + e.Reason
}
