"""What was wrong with the certificate of whoever was called, however deep the failure lies in what a library raised."""

import ssl


def certificate_doubt(error: BaseException | None) -> str:
    """Why a server's certificate was not trusted; empty where the failure is another one.

    Args:
        error: what was raised; its causes are looked through.
    """
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return ""
