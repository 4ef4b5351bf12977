"""`python -m kubeocean`: the command line, whatever `kubeocean` is on the PATH."""

from kubeocean.cli import main

main()
