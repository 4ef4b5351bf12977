"""What a real API server makes of quantities, against what we make of them."""

from kubeocean.kube.client import Client
from kubeocean.kube.quantity import Quantity, parse
from kubeocean.kube.resources import PODS

# All in one Pod, one container each: memory takes every form.
TEXTS = (
    "0", "1", "1024", "1000m", "1500m", "0.1", ".5", "5.", "1.500", "12.345k", "1000000", "100k", "00012", "+5",
    "1023Ki", "1000Ki", "1024Mi", "1.5Gi", "0.5Gi", "0.1Ki", "0.0001Ki", "1.0001Ki", "3.3Ti", "8Ei",
    "1.5n", "0.1n", "999999n", "123456789.123456789", "1e3", "1E3", "12e5", "1e20", "4e+2", "4e-2",
)


def as_a_resource_list_keeps_it(amount: Quantity) -> Quantity:
    return Quantity(amount.milli() * 10**6, amount.form)


async def test_the_server_reads_and_writes_quantities_as_we_do(virtual_client: Client, namespace: str) -> None:
    containers = [
        {"name": f"c{position}", "image": "none", "resources": {"requests": {"memory": text}}}
        for position, text in enumerate(TEXTS)
    ]
    metadata = {"name": "quantities", "namespace": namespace}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}}
    created = await virtual_client.create(PODS, pod, dry_run=True)
    read = [container["resources"]["requests"]["memory"] for container in created["spec"]["containers"]]
    kept = [as_a_resource_list_keeps_it(parse(text)) for text in TEXTS]
    assert [parse(answer) for answer in read] == kept
    # The server keeps some spellings of its users; whatever it does rewrite, it rewrites as we do.
    assert [answer for answer, text in zip(read, TEXTS, strict=True) if answer != text] == [
        str(amount) for amount, answer, text in zip(kept, read, TEXTS, strict=True) if answer != text
    ]
    # And what is canonical to us is canonical to the server: it comes back unchanged.
    for container, amount in zip(containers, kept, strict=True):
        container["resources"] = {"requests": {"memory": str(amount)}}
    again = await virtual_client.create(PODS, pod, dry_run=True)
    answers = [container["resources"]["requests"]["memory"] for container in again["spec"]["containers"]]
    assert answers == [str(amount) for amount in kept]
