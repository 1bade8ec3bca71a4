"""What people see: everything that needs rich. Recorded text enters as `Text`, never as markup."""
