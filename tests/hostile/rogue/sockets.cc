// SPDX-License-Identifier: GPL-2.0-or-later
// Sockets: new ones of every family, and what the one that it holds can be turned into.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "tests/hostile/rogue/attempt.h"

namespace fuse4fs::rogue {
namespace {

template <int kFamily, int kType, int kProtocol = 0>
Verdict new_socket(Place&) {
  return by_errno(::syscall(SYS_socket, kFamily, kType, kProtocol), "a socket");
}

// To an address where something may listen.
Verdict connect_tcp(std::uint32_t address, std::uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (socket < 0) return by_errno(-1);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(address);
  return by_errno(::connect(socket, reinterpret_cast<const sockaddr*>(&to), sizeof to));
}

sockaddr_un unix_address(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

Verdict connect_unix(const char* path, int type) {
  const int socket = ::socket(AF_UNIX, type, 0);
  if (socket < 0) return by_errno(-1);
  const sockaddr_un address = unix_address(path);
  return by_errno(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address));
}

struct Control {
  alignas(cmsghdr) std::array<std::byte, 128> bytes{};
  std::size_t size = 0;
};

template <class T>
Control control(int type, const T& value) {
  Control made;
  auto* const header = reinterpret_cast<cmsghdr*>(made.bytes.data());
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = type;
  header->cmsg_len = CMSG_LEN(sizeof value);
  std::memcpy(CMSG_DATA(header), &value, sizeof value);
  made.size = CMSG_SPACE(sizeof value);
  return made;
}

// Then the helper's word counts: one that takes such a packet for a command would answer it.
Verdict send_with(Place& place, Control control) {
  constexpr std::array<unsigned char, 8> kType{'T', 'Y', 'P', 'E', 0, 0, 0, 1};
  iovec data{const_cast<unsigned char*>(kType.data()), kType.size()};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.size;
  if (::sendmsg(place.socket, &message, MSG_NOSIGNAL) < 0) return by_errno(-1);
  std::array<unsigned char, 64> answer{};
  const ssize_t length = ::recv(place.socket, answer.data(), answer.size(), 0);
  if (length <= 0) return conversation_ended();
  const int error = answer[6] << 8 | answer[7];
  return error == 0 ? succeeded("the helper took it") : refused_with(error);
}

constexpr Behind kFamily = filter_alone("a socket in an empty network; unit: RestrictAddressFamilies=none");
constexpr Behind kNoNetwork = behind("empty network namespace, Landlock; unit: RestrictAddressFamilies=none");
constexpr Behind kNoCapability = behind("no capabilities");

constexpr Attempt kTable[] = {
    {"socket_unix", "a Unix socket", new_socket<AF_UNIX, SOCK_STREAM>, Expected::kKilled, kFamily},
    {"socket_inet", "an IPv4 socket", new_socket<AF_INET, SOCK_DGRAM>, Expected::kKilled, kFamily},
    {"socket_inet6", "an IPv6 socket", new_socket<AF_INET6, SOCK_STREAM>, Expected::kKilled,
     filter_alone("a socket in an empty network, where the kernel has IPv6")},
    {"socket_netlink", "a netlink socket", new_socket<AF_NETLINK, SOCK_RAW, 0>, Expected::kKilled, kFamily},
    {"socket_uevents", "a netlink socket of the kernel's device events", new_socket<AF_NETLINK, SOCK_RAW, 15>,
     Expected::kKilled, kFamily},
    {"socket_packet", "a raw network socket", new_socket<AF_PACKET, SOCK_RAW>, Expected::kKilled,
     kNoCapability},
    {"socket_raw_inet", "a raw IPv4 socket", new_socket<AF_INET, SOCK_RAW, IPPROTO_ICMP>, Expected::kKilled,
     kNoCapability},
    {"socket_vsock", "a socket to the virtual machine's host", new_socket<AF_VSOCK, SOCK_STREAM>,
     Expected::kKilled,
     filter_alone("a way to the host of a virtual machine, where the kernel has it; unit: "
                  "RestrictAddressFamilies=none")},
    {"socket_alg", "a socket of the kernel's ciphers", new_socket<AF_ALG, SOCK_SEQPACKET>, Expected::kKilled,
     filter_alone("the kernel's ciphers, where it has them; unit: RestrictAddressFamilies=none")},
    {"socket_bluetooth", "a Bluetooth socket", new_socket<AF_BLUETOOTH, SOCK_RAW, 1>, Expected::kKilled,
     behind("empty network namespace")},
    {"socket_can", "a CAN socket", new_socket<AF_CAN, SOCK_RAW, 1>, Expected::kKilled,
     behind("empty network namespace")},
    {"socket_xdp", "an XDP socket", new_socket<AF_XDP, SOCK_RAW>, Expected::kKilled, kNoCapability},
    {"socket_key", "a key management socket", new_socket<AF_KEY, SOCK_RAW, 2>, Expected::kKilled,
     kNoCapability},
    {"socket_smc", "an SMC socket", new_socket<AF_SMC, SOCK_STREAM>, Expected::kKilled,
     filter_alone("a socket in an empty network, where the kernel has SMC")},
    {"socketpair", "a pair of sockets",
     [](Place&) {
       int ends[2];
       return by_errno(::socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
     },
     Expected::kKilled, filter_alone("a pair of its own")},
    {"connect_loopback", "connect to port 22 of this machine",
     [](Place&) { return connect_tcp(INADDR_LOOPBACK, 22); }, Expected::kKilled, kNoNetwork},
    {"connect_internet", "connect to 192.0.2.1", [](Place&) { return connect_tcp(0xc0000201, 80); },
     Expected::kKilled, kNoNetwork},
    {"listen_on_port", "listen on a port of its own",
     [](Place&) {
       const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
       if (socket < 0) return by_errno(-1);
       sockaddr_in any{};
       any.sin_family = AF_INET;
       any.sin_port = htons(8080);
       if (::bind(socket, reinterpret_cast<const sockaddr*>(&any), sizeof any) != 0) return by_errno(-1);
       return by_errno(::listen(socket, 1));
     },
     Expected::kKilled, kNoNetwork},
    {"connect_system_bus", "connect to the system bus",
     [](Place&) { return connect_unix("/run/dbus/system_bus_socket", SOCK_STREAM); }, Expected::kKilled,
     behind("empty root; unit: RestrictAddressFamilies=none")},
    {"connect_notify", "connect to systemd's notify socket",
     [](Place&) { return connect_unix("/run/systemd/notify", SOCK_DGRAM); }, Expected::kKilled,
     behind("empty root; unit: RestrictAddressFamilies=none")},
    {"connect_own_service", "connect to the socket of the service, as a helper would",
     [](Place&) { return connect_unix("/run/filesystems/fuse4fs", SOCK_SEQPACKET); }, Expected::kKilled,
     behind("empty root; unit: RestrictAddressFamilies=none")},
    {"connect_abstract", "connect to an abstract socket",
     [](Place&) {
       const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
       if (socket < 0) return by_errno(-1);
       sockaddr_un address{};
       address.sun_family = AF_UNIX;
       std::memcpy(address.sun_path + 1, "rogue", 5);
       return by_errno(::connect(socket, reinterpret_cast<const sockaddr*>(&address),
                                 offsetof(sockaddr_un, sun_path) + 6));
     },
     Expected::kKilled, behind("empty network namespace, Landlock's scope")},
    {"accept_on_socket", "accept on the helper's socket",
     [](Place& place) { return by_errno(::accept4(place.socket, nullptr, nullptr, 0)); }, Expected::kKilled,
     behind("it does not listen")},
    {"listen_on_socket", "listen on the helper's socket",
     [](Place& place) { return by_errno(::listen(place.socket, 1)); }, Expected::kKilled,
     behind("it is connected and has no address")},
    {"reconnect_socket", "connect the helper's socket to somebody else",
     [](Place& place) {
       const sockaddr_un address = unix_address("/run/systemd/notify");
       return by_errno(::connect(place.socket, reinterpret_cast<const sockaddr*>(&address), sizeof address));
     },
     Expected::kKilled, behind("it is connected for good; empty root")},
    {"bind_socket", "give the helper's socket an address",
     [](Place& place) {
       const sockaddr_un address = unix_address("/x");
       return by_errno(::bind(place.socket, reinterpret_cast<const sockaddr*>(&address), sizeof address));
     },
     Expected::kKilled, behind("empty read-only root, Landlock")},
    {"bind_socket_abstract", "give the helper's socket an abstract address",
     [](Place& place) {
       sa_family_t family = AF_UNIX;
       return by_errno(::bind(place.socket, reinterpret_cast<const sockaddr*>(&family), sizeof family));
     },
     Expected::kKilled, filter_alone("an address in an empty network")},
    {"send_to_address", "send to another address through the helper's socket",
     [](Place& place) {
       const sockaddr_un address = unix_address("/run/systemd/notify");
       if (::sendto(place.socket, "READY=1", 7, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                    sizeof address) < 0)
         return by_errno(-1);
       char byte = 0;
       return ::recv(place.socket, &byte, 1, 0) <= 0 ? conversation_ended() : succeeded("an answer");
     },
     Expected::kKilled,
     behind("it is connected: the packet goes to the helper, which knows no such command")},
    {"push_descriptor", "push a descriptor at the helper",
     [](Place& place) { return send_with(place, control(SCM_RIGHTS, place.log)); }, Expected::kKilled,
     behind("SO_PASSRIGHTS off (Linux 6.16), and the helper refuses packets with one")},
    {"push_many_descriptors", "push many descriptors at the helper",
     [](Place& place) {
       std::array<int, 16> many{};
       many.fill(place.log);
       return send_with(place, control(SCM_RIGHTS, many));
     },
     Expected::kKilled, behind("SO_PASSRIGHTS off (Linux 6.16), and the helper refuses packets with one")},
    {"forge_credentials", "say that process 1 and root sent the packet",
     [](Place& place) { return send_with(place, control(SCM_CREDENTIALS, ucred{1 + ::getpid(), 0, 0})); },
     Expected::kKilled, behind("no capabilities: the kernel lets it name itself only")},
    {"send_many_messages", "sendmmsg",
     [](Place& place) {
       iovec data{const_cast<char*>("EVIL"), 4};
       mmsghdr message{};
       message.msg_hdr.msg_iov = &data;
       message.msg_hdr.msg_iovlen = 1;
       const int sent = ::sendmmsg(place.socket, &message, 1, MSG_NOSIGNAL);
       if (sent < 0) return by_errno(-1);
       char byte = 0;
       return ::recv(place.socket, &byte, 1, 0) <= 0 ? conversation_ended() : succeeded("an answer");
     },
     Expected::kKilled, behind("the helper ends the conversation")},
    {"widen_buffer", "make the helper's socket hold more",
     [](Place& place) {
       const int size = 1 << 30;
       return by_errno(::setsockopt(place.socket, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size));
     },
     Expected::kKilled, kNoCapability},
    {"attach_filter_to_socket", "put a BPF program on the helper's socket",
     [](Place& place) {
       const int program = 1;
       return by_errno(::setsockopt(place.socket, SOL_SOCKET, SO_ATTACH_BPF, &program, sizeof program));
     },
     Expected::kKilled, behind("no BPF program to be had")},
    {"helper_by_peer_pidfd", "get a handle of the helper by SO_PEERPIDFD, and signal it",
     [](Place& place) {
       int fd = -1;
       socklen_t size = sizeof fd;
       constexpr int kPeerPidFd = 77;
       if (::getsockopt(place.socket, SOL_SOCKET, kPeerPidFd, &fd, &size) != 0) return by_errno(-1);
       return by_errno(::syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0));
     },
     Expected::kKilled, behind("no capabilities over root's process, Landlock's scope")},
    {"shut_socket_down", "shut the helper's socket down for one direction",
     [](Place& place) { return by_errno(::shutdown(place.socket, SHUT_WR)); }, Expected::kKilled,
     filter_alone("a closed conversation, as by close")},
    {"out_of_band", "send out of band data to the helper",
     [](Place& place) { return by_errno(::send(place.socket, "x", 1, MSG_OOB | MSG_NOSIGNAL)); },
     Expected::kErrno, behind("the kernel: not on this kind of socket")},
};

}  // namespace

constinit const Theme kSockets{"Sockets", kTable};

}  // namespace fuse4fs::rogue
