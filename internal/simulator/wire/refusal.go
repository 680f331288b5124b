package wire

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net/http"

	"github.com/mqtt-token-operator/mqtt-token-operator/internal/simulator/state"
)

// refusal puts an error into the body that the service documents: strings only.
func refusal(r *http.Request, e *state.Error) answer {
	return answer{status: e.Status, code: e.Code, body: map[string]any{
		"RequestId": requestID(), "HostId": r.Host, "Code": e.Code, "Message": e.Message,
	}}
}

// requestID draws an id of the form that the service's answers carry.
func requestID() string {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails, by its contract
	return fmt.Sprintf("%X-%X-%X-%X-%X", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
}

func (f Fault) refusal() *state.Error {
	return &state.Error{
		Status:  cmp.Or(f.Status, http.StatusServiceUnavailable),
		Code:    cmp.Or(f.Code, "ServiceUnavailable"),
		Message: cmp.Or(f.Message, "The request has failed due to a temporary failure of the server."),
	}
}

func internalError() *state.Error {
	return &state.Error{
		Status: http.StatusInternalServerError, Code: "InternalError",
		Message: "An error occurred while processing your request. Try again later.",
	}
}

func invalidExpireTime() *state.Error {
	return badRequest("InvalidParameter.ExpireTime",
		"An error occurred while validating the parameter. The parameter may be missing or invalid.")
}

func badRequest(code, message string) *state.Error {
	return &state.Error{Status: http.StatusBadRequest, Code: code, Message: message}
}

func missing(param string) *state.Error {
	return badRequest("Missing"+param, param+" is mandatory for this action.")
}

func unknownAPI() *state.Error {
	return &state.Error{
		Status: http.StatusNotFound, Code: "InvalidApi.NotFound",
		Message: "Specified api is not found, please check your url and method.",
	}
}

func unsupportedMethod() *state.Error {
	return &state.Error{
		Status: http.StatusMethodNotAllowed, Code: "UnsupportedHTTPMethod", Message: "The HTTP method is not supported by this api.",
	}
}

func unsupportedSignature() *state.Error {
	return badRequest("InvalidParameter.SignatureMethod", "The signature method or version is not supported.")
}

func malformedTimestamp() *state.Error {
	return badRequest("InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
}

func expiredTimestamp() *state.Error {
	return badRequest("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
}

func unknownKey() *state.Error {
	return &state.Error{Status: http.StatusNotFound, Code: "InvalidAccessKeyId.NotFound", Message: "Specified access key is not found."}
}

func wrongSecurityToken() *state.Error {
	return badRequest("InvalidSecurityToken.MismatchWithAccessKey", "Specified SecurityToken mismatch with the AccessKey.")
}

func expiredSecurityToken() *state.Error {
	return badRequest("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
}

// signatureDoesNotMatch echoes the string to sign as the gateway does, although it holds the call's parameters: clients
// must be tested against a message that is not fit for a log.
func signatureDoesNotMatch(text string) *state.Error {
	return badRequest("SignatureDoesNotMatch",
		"Specified signature is not matched with our calculation. server string to sign is:"+text)
}

func nonceUsed() *state.Error {
	return badRequest("SignatureNonceUsed", "Specified signature nonce was used already.")
}
