package state

import "net/http"

// Error is a refusal in the words of the service's error tables.
type Error struct {
	// Status is the HTTP status that carries the code.
	Status int
	// Code and Message are the documented pair.
	Code, Message string
}

// Error says the code and the message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func parameterCheckFailed() *Error {
	return &Error{
		Status: http.StatusBadRequest, Code: "ParameterCheckFailed",
		Message: "An error occurred while validating the parameters. The parameters may be missing or invalid.",
	}
}

func permissionCheckFailed() *Error {
	return &Error{
		Status: http.StatusBadRequest, Code: "PermissionCheckFailed",
		Message: "An error occurred while validating the resource permissions. Please check the account that created the " +
			"instance, topic, and GroupId, and check their permission settings.",
	}
}

func instancePermissionCheckFailed() *Error {
	return &Error{
		Status: http.StatusBadRequest, Code: "InstancePermissionCheckFailed",
		Message: "An error occurred while validating the permissions of the instance. Please verify the account that " +
			"created the instance and its permissions settings.",
	}
}

func overflow(op Operation) *Error {
	verb := map[Operation]string{Apply: "applied for", Query: "queried", Revoke: "revoked"}[op]
	return &Error{
		Status: http.StatusBadRequest, Code: string(op) + "OverFlow",
		Message: "You have " + verb + " tokens too many times. Please try again later.",
	}
}
