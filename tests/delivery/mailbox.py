"""An SMTP server that keeps what it accepts: mailbox.py HOST PORT FOLDER. A file FOLDER/answer makes it answer that instead."""
import asyncio, pathlib, sys
from aiosmtpd.controller import Controller

host, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])

class Keep:
    count = 0

    async def handle_DATA(self, server, session, envelope):
        answer = folder / "answer"
        if answer.exists():
            with open(folder / "refused", "a") as refused:
                refused.write("x")
            return answer.read_text().strip()
        Keep.count += 1
        (folder / f"{Keep.count}.mail").write_bytes(envelope.content)
        return "250 kept"

controller = Controller(Keep(), hostname=host, port=port)
controller.start()
asyncio.new_event_loop().run_forever()
