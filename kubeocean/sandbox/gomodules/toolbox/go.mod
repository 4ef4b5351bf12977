// Written by hack/update-go-modules; do not edit.
module kubeocean.io/sandbox/toolbox

go 1.24.0
