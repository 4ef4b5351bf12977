"""The field tables of volumes: every source of Volume and of a projected volume, and every field of those that are carried."""

from __future__ import annotations

from typing import Final

from kubeocean.domain.fieldrules import KEEP, RENAME, Rule, Table, Treatment, keep, plain, refuse, rewrite

_REMOVED: Final = "Kubernetes has removed this volume plugin"
_BASELINE: Final = "only where the binding says allowPrivileged (Pod Security baseline)"
_VIRTUAL: Final = "references read the virtual values"
_SECRET: Final = keep("LocalObjectReference")

VOLUME: Final[Table] = {
    "awsElasticBlockStore": keep("AWSElasticBlockStoreVolumeSource"),
    "azureDisk": keep("AzureDiskVolumeSource"),
    "azureFile": keep("AzureFileVolumeSource"),
    "cephfs": refuse(_REMOVED),
    "cinder": keep("CinderVolumeSource"),
    "configMap": keep("ConfigMapVolumeSource", "kube-root-ca.crt becomes a Secret of ours, with the virtual cluster's root"),
    "csi": keep("CSIVolumeSource"),
    "downwardAPI": keep("DownwardAPIVolumeSource", _VIRTUAL),
    "emptyDir": keep("EmptyDirVolumeSource"),
    "ephemeral": rewrite("the claim that the virtual cluster makes of it, by its name"),
    "fc": keep("FCVolumeSource"),
    "flexVolume": keep("FlexVolumeSource"),
    "flocker": refuse(_REMOVED),
    "gcePersistentDisk": keep("GCEPersistentDiskVolumeSource"),
    "gitRepo": refuse("Kubernetes has disabled this volume plugin, it ran code as root on the node"),
    "glusterfs": refuse(_REMOVED),
    "hostPath": keep("HostPathVolumeSource", _BASELINE),
    "image": keep("ImageVolumeSource"),
    "iscsi": keep("ISCSIVolumeSource"),
    "name": KEEP,
    "nfs": keep("NFSVolumeSource"),
    "persistentVolumeClaim": keep("PersistentVolumeClaimVolumeSource"),
    "photonPersistentDisk": refuse(_REMOVED),
    "portworxVolume": keep("PortworxVolumeSource"),
    "projected": rewrite("source by source; tokens, root certificate and namespace come out of one Secret of ours per volume",
                         "ProjectedVolumeSource"),
    "quobyte": refuse(_REMOVED),
    "rbd": refuse(_REMOVED),
    "scaleIO": refuse(_REMOVED),
    "secret": keep("SecretVolumeSource"),
    "storageos": refuse(_REMOVED),
    "vsphereVolume": keep("VsphereVirtualDiskVolumeSource"),
}

PROJECTED_SOURCE: Final[Table] = {
    "clusterTrustBundle": refuse("its bundles are cluster-wide objects, and the lender's are not the user's"),
    "configMap": keep("ConfigMapProjection", "kube-root-ca.crt becomes a key of our Secret"),
    "downwardAPI": keep("DownwardAPIProjection", _VIRTUAL),
    "podCertificate": refuse("its signers are in the virtual cluster, its kubelet is not"),
    "secret": keep("SecretProjection"),
    "serviceAccountToken": rewrite("a key of our Secret", "ServiceAccountTokenProjection"),
}

VOLUME_TABLES: Final[dict[str, Table]] = {
    "Volume": VOLUME,
    "VolumeProjection": PROJECTED_SOURCE,
    "AWSElasticBlockStoreVolumeSource": plain("fsType partition readOnly volumeID"),
    "AzureDiskVolumeSource": plain("cachingMode diskName diskURI fsType kind readOnly"),
    "AzureFileVolumeSource": plain("readOnly shareName", secretName=RENAME),
    "CSIVolumeSource": plain("driver fsType readOnly volumeAttributes", nodePublishSecretRef=_SECRET),
    "CinderVolumeSource": plain("fsType readOnly volumeID", secretRef=_SECRET),
    "ConfigMapProjection": plain("optional", items=keep("KeyToPath"), name=RENAME),
    "ConfigMapVolumeSource": plain("defaultMode optional", items=keep("KeyToPath"), name=RENAME),
    "DownwardAPIProjection": {"items": keep("DownwardAPIVolumeFile")},
    "DownwardAPIVolumeFile": plain(
        "mode path", fieldRef=keep("ObjectFieldSelector", _VIRTUAL), resourceFieldRef=keep("ResourceFieldSelector"),
    ),
    "DownwardAPIVolumeSource": plain("defaultMode", items=keep("DownwardAPIVolumeFile")),
    "EmptyDirVolumeSource": plain("medium sizeLimit"),
    "FCVolumeSource": plain("fsType lun readOnly targetWWNs wwids"),
    "FlexVolumeSource": plain("driver fsType options readOnly", secretRef=_SECRET),
    "GCEPersistentDiskVolumeSource": plain("fsType partition pdName readOnly"),
    "HostPathVolumeSource": plain("path type"),
    "ISCSIVolumeSource": plain(
        "chapAuthDiscovery chapAuthSession fsType initiatorName iqn iscsiInterface lun portals readOnly targetPortal",
        secretRef=_SECRET,
    ),
    "ImageVolumeSource": plain("pullPolicy reference"),
    "KeyToPath": plain("key mode path"),
    "NFSVolumeSource": plain("path readOnly server"),
    "PersistentVolumeClaimVolumeSource": plain("readOnly", claimName=RENAME),
    "PortworxVolumeSource": plain("fsType readOnly volumeID"),
    "ProjectedVolumeSource": plain("defaultMode", sources=rewrite("source by source", "VolumeProjection")),
    "SecretProjection": plain("optional", items=keep("KeyToPath"), name=RENAME),
    "SecretVolumeSource": plain("defaultMode optional", items=keep("KeyToPath"), secretName=RENAME),
    "ServiceAccountTokenProjection": {
        "audience": Rule(Treatment.REWRITE, "asked for when the token is minted"),
        "expirationSeconds": Rule(Treatment.REWRITE, "asked for when the token is minted"),
        "path": Rule(Treatment.REWRITE, "where the key of our Secret appears"),
    },
    "VsphereVirtualDiskVolumeSource": plain("fsType storagePolicyID storagePolicyName volumePath"),
}
