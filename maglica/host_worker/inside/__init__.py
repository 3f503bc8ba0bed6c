"""What is done inside a running guest, through QEMU's guest agent: commands, files, accounts."""
