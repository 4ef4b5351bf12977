// Written by hack/update-go-modules; do not edit.
module kubeocean.io/sandbox/realnode

go 1.24.0
