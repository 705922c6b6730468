"""An artifact as an image volume on a real node whose containerd mounts images. Run by hand, as root."""
