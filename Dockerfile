# syntax=docker/dockerfile:1
# The images of the operator:
#   docker build -t mqtt-token-operator .
#   docker build -t mqtt-token-simulator --target simulator .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY api api
COPY cmd cmd
COPY controllers controllers
COPY internal internal
COPY pkg pkg
COPY hack/release-build.sh hack/release-build.sh
ARG TARGETOS=linux
ARG TARGETARCH=amd64
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH hack/release-build.sh /out/ ./cmd/manager ./cmd/simulator

FROM gcr.io/distroless/static:nonroot AS base
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.source="https://github.com/mqtt-token-operator/mqtt-token-operator" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
USER 65532:65532

FROM base AS simulator
LABEL org.opencontainers.image.title="mqtt-token-simulator" \
      org.opencontainers.image.description="Local stand-in for the ApsaraMQ for MQTT token service and its broker"
COPY --from=build /out/simulator /simulator
ENTRYPOINT ["/simulator"]

# Last, and so the default.
FROM base AS manager
LABEL org.opencontainers.image.title="mqtt-token-operator" \
      org.opencontainers.image.description="Issues, renews and revokes ApsaraMQ for MQTT tokens from Kubernetes objects"
COPY --from=build /out/manager /manager
ENTRYPOINT ["/manager"]
