# SPDX-License-Identifier: BSD-2-Clause
"""In front of the real one on a server's path: uvicorn then runs on asyncio's own loop."""
raise ImportError("not for this server")
