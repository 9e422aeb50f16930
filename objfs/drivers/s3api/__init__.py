"""The S3 REST API over urllib3, for drivers that bring an SDK's endpoints, credentials and signatures.

The SDKs' own request paths cost two to four times the processor time per request, hide some keys (empty or
dotted parts) and some headers (conditions), and unpack bodies that should stay as they are.
"""
