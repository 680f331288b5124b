module github.com/mqtt-token-operator/mqtt-token-operator/hack/licences

go 1.26.0

require (
	github.com/google/go-cmp v0.7.0
	github.com/google/licensecheck v0.3.1
)
