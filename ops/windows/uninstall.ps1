# Stop and remove the Windows service. Data, settings and logs stay, unless -Purge.
#   powershell -ExecutionPolicy Bypass -File ops\windows\uninstall.ps1 [-Purge]
param(
    [string]$Data = "$env:ProgramData\Onebar",
    [string]$Nssm = "nssm.exe",
    [string]$Service = "Onebar",
    [switch]$Purge
)
$ErrorActionPreference = "Stop"

$identity = [Security.Principal.WindowsPrincipal][Security.Principal.WindowsIdentity]::GetCurrent()
if (-not $identity.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw "Removing a service needs an elevated prompt (Run as administrator)."
}
if (Get-Service -Name $Service -ErrorAction SilentlyContinue) {
    & $Nssm stop $Service | Out-Null
    & $Nssm remove $Service confirm
    if ($LASTEXITCODE -ne 0) { throw "nssm remove ended with $LASTEXITCODE" }
}
if ($Purge) {
    if (-not (Test-Path (Join-Path $Data "scheduler.toml"))) { throw "$Data holds no Onebar; nothing was removed" }
    Remove-Item -Recurse -Force $Data
} else {
    Write-Host "Kept: $Data (bots, trades, settings, logs). -Purge removes it."
}
