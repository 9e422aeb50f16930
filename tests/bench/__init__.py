"""The benchmark: objfs beside rclone and s3fs on one real MinIO."""
